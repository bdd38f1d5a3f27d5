import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReplicaChoice, type ReplicaLoad } from './replica-choice.ts';

const MAX_ROWS = 8;
const loads = (...open: readonly (number | null)[]): ReplicaLoad[] =>
  open.map((count) => ({ isReady: count !== null, open: count ?? 0, maxRows: MAX_ROWS }));
const prompt = (length: number, first = 1) => new Uint32Array(length).fill(first);

describe('a request goes', () => {
  test('to the replica with least to do, in turns where several have', () => {
    const choice = new ReplicaChoice();
    expect(choice.choose('a', prompt(10), loads(3, 1, 1))).toBe(1);
    const turns = [1, 2, 3, 4].map(() => choice.choose('a', prompt(10), loads(0, 0, 0)));
    expect(turns).toEqual([2, 0, 1, 2]);
  });

  test('to the one that last had its prefix, until that has half a batch more to do', () => {
    const choice = new ReplicaChoice();
    expect(choice.choose('a', prompt(300), loads(1, 0))).toBe(1);
    expect(choice.choose('a', prompt(300), loads(0, MAX_ROWS / 2))).toBe(1);
    expect(choice.choose('a', prompt(300), loads(0, MAX_ROWS / 2 + 1))).toBe(0);
    // That one has it now, too, and had it last.
    expect(choice.choose('a', prompt(300), loads(1, 0))).toBe(0);
  });

  test('by the longest prefix that is known', () => {
    const choice = new ReplicaChoice();
    const long = Uint32Array.of(...prompt(128), ...prompt(128, 2));
    expect(choice.choose('a', long, loads(0, 1))).toBe(0);
    // The first block alone is the other's by now.
    expect(choice.choose('a', prompt(128), loads(9, 0))).toBe(1);
    expect(choice.choose('a', long, loads(1, 0))).toBe(0);
  });

  test('nowhere by the prefix of another tenant', () => {
    const choice = new ReplicaChoice();
    expect(choice.choose('a', prompt(300), loads(1, 0))).toBe(1);
    expect(choice.choose('b', prompt(300), loads(0, 1))).toBe(0);
  });

  test('to none that is being started again, whatever it had', () => {
    const choice = new ReplicaChoice();
    expect(choice.choose('a', prompt(300), loads(0, 1))).toBe(0);
    expect(choice.choose('a', prompt(300), loads(null, 5))).toBe(1);
    expect(choice.choose('a', prompt(300), loads(null, null))).toBeUndefined();
  });
});

test('whatever comes, the chosen one is ready and no more than half a batch behind', () => {
  const load = fc.option(fc.integer({ min: 0, max: 20 }));
  const order = fc.record({
    tenant: fc.constantFrom('a', 'b'),
    blocks: fc.integer({ min: 0, max: 80 }),
    first: fc.integer({ min: 0, max: 2 }),
    open: fc.array(load, { minLength: 1, maxLength: 4 }),
  });
  const orders = fc.array(order, { maxLength: 30 });
  fc.assert(
    fc.property(orders, fc.integer({ min: 1, max: 4 }), (all, count) => {
      const choice = new ReplicaChoice();
      for (const { tenant, blocks, first, open } of all) {
        const now = loads(...Array.from({ length: count }, (_, i) => open[i] ?? null));
        const ready = now.filter(({ isReady }) => isReady);
        const chosen = choice.choose(tenant, prompt(128 * blocks + 5, first), now);
        expect(chosen === undefined).toBe(ready.length === 0);
        if (chosen === undefined) continue;
        expect(now[chosen]!.isReady).toBe(true);
        const least = Math.min(...ready.map((each) => each.open));
        expect(now[chosen]!.open - least).toBeLessThanOrEqual(MAX_ROWS / 2);
      }
    }),
    { numRuns: 100 },
  );
});
