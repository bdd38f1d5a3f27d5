import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KvPart } from '../kv/tiers/movement.ts';
import { slotsOf } from './store-slots.ts';

const sizeOf = (part: KvPart, bytes: number) => ({ part, bytes, pieceBytes: bytes });
const GIB = 2 ** 30;

describe('the bytes of a store', () => {
  test('are all for contexts where a model has nothing else', () => {
    const usual = { pageTokens: 16, contextTokens: 1024, windowPages: 0 };
    expect(slotsOf(10 * 4096 + 4095, [sizeOf('context', 4096)], usual)).toEqual({ context: 10 });
    expect(slotsOf(4095, [sizeOf('context', 4096)], usual)).toEqual({ context: 0 });
  });

  test('have a window for each context of middling length', () => {
    // gpt-oss-20b: 12 of 24 layers see 128 tokens, 1 KiB of each token a layer, pages of 16 tokens.
    const page = 12 * 16 * 1024;
    const parts = [sizeOf('context', page), sizeOf('window', page)];
    const usual = { pageTokens: 16, contextTokens: 1024, windowPages: 9 };
    const { context = 0, window = 0 } = slotsOf(GIB, parts, usual);
    // 64 pages of contexts and 9 of windows, all of one size.
    expect(context).toBe(Math.floor(GIB / (page * (1 + 9 / 64))));
    expect(window).toBe(Math.floor((context * 9) / 64));
    // Of one pool with all layers there would be half as many as fit the bytes of contexts.
    expect(context).toBeGreaterThan(1.7 * Math.floor(GIB / (2 * page)));
  });

  test('have a quarter of states at most, and no more states than make sense', () => {
    const usual = { pageTokens: 16, contextTokens: 1024, windowPages: 0 };
    // Qwen3.6-27B: 64 KiB of a token, and states of 147 MiB.
    const large = [sizeOf('context', 16 * 65_536), sizeOf('state', 147 * 2 ** 20)];
    expect(slotsOf(64 * GIB, large, usual)).toEqual({ context: 48 * 1024, state: 111 });
    // So small that each 256 tokens can have one.
    const small = [sizeOf('context', 4096), sizeOf('state', 1024)];
    const { context = 0, state = 0 } = slotsOf(GIB, small, usual);
    expect(context).toBe(Math.floor(GIB / (4096 + 1024 / 16)));
    expect(state).toBe(Math.floor(context / 16));
  });

  test('are never exceeded, and next to nothing is left over, whatever parts there are', () => {
    const bytes = fc.integer({ min: 1, max: 2 ** 22 }).map((vectors) => 16 * vectors);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 40 }),
        fc.record({ context: bytes, window: fc.option(bytes), state: fc.option(bytes) }),
        fc.integer({ min: 1, max: 256 }),
        fc.integer({ min: 16, max: 2 ** 17 }),
        fc.integer({ min: 1, max: 1000 }),
        (storeBytes, sizes, pageTokens, contextTokens, windowPages) => {
          const parts = [sizeOf('context', sizes.context)];
          if (sizes.window !== null) parts.push(sizeOf('window', sizes.window));
          if (sizes.state !== null) parts.push(sizeOf('state', sizes.state));
          const slots = slotsOf(storeBytes, parts, { pageTokens, contextTokens, windowPages });
          const usedBytes = parts.reduce((sum, { part, bytes }) => sum + slots[part]! * bytes, 0);
          expect(usedBytes).toBeLessThanOrEqual(storeBytes);
          expect(Object.keys(slots)).toEqual(parts.map(({ part }) => part));
          const { context = 0, window = 0, state = 0 } = slots;
          // A node has one of each at most.
          expect(Math.max(window, state)).toBeLessThanOrEqual(context);
          expect(state * (sizes.state ?? 0)).toBeLessThanOrEqual(storeBytes / 4 + 1);
          const all = parts.reduce((sum, { bytes }) => sum + bytes, 0);
          expect(storeBytes - usedBytes).toBeLessThanOrEqual(2 * all);
        },
      ),
    );
  });
});
