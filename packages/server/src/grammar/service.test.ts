import { describe, expect, test } from 'vitest';
import { HOST_CLOCK } from '../host-clock.ts';
import { GRAMMAR_LIMITS, type GrammarLimits, GrammarService } from './service.ts';
import type { GrammarTask } from './task.ts';

async function withService<T>(
  limits: Partial<GrammarLimits>,
  use: (service: GrammarService, expire: () => void) => Promise<T>,
): Promise<T> {
  let expire = () => {};
  const clock = {
    after: (_: number, action: () => void) => {
      expire = action;
      return () => {};
    },
  };
  const service = new GrammarService(clock, { ...GRAMMAR_LIMITS, ...limits });
  try {
    return await use(service, () => expire());
  } finally {
    await service.close();
  }
}

const regex = (pattern: string): GrammarTask => ({
  content: { kind: 'regex', pattern },
  answer: undefined,
});

describe('the compiler of grammars', () => {
  test('compiles once for a tenant, also when several wait for it', () =>
    withService({}, async (service) => {
      const [first, second] = await Promise.all([
        service.compile('a', regex('a+')),
        service.compile('a', regex('a+')),
      ]);
      expect(first).toBe(second);
      expect(await service.compile('a', regex('a+'))).toBe(first);
      expect(first.words.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(service.counts).toMatchObject({ compiled: 1, found: 2, refused: 0 });
    }));

  test('does not let a tenant know what another has compiled', () =>
    withService({}, async (service) => {
      const first = await service.compile('a', regex('a+'));
      const second = await service.compile('b', regex('a+'));
      expect(second).not.toBe(first);
      expect(second.digest).toBe(first.digest);
      expect(service.counts).toMatchObject({ compiled: 2, found: 0 });
    }));

  test('gives up what was used least recently, and never holds more than it may', () =>
    withService({}, async (unbounded) => {
      const { words } = await unbounded.compile('a', regex('a'));
      const cacheBytes = 2 * words.byteLength;
      await withService({ cacheBytes }, async (service) => {
        for (const pattern of ['a', 'b', 'a', 'c']) await service.compile('a', regex(pattern));
        expect(service.counts).toMatchObject({ compiled: 3, found: 1, heldBytes: cacheBytes });
        await service.compile('a', regex('a'));
        await service.compile('a', regex('b'));
        expect(service.counts).toMatchObject({ compiled: 4, found: 2, heldBytes: cacheBytes });
      });
    }));

  test('says why a grammar is refused, and goes on', () =>
    withService({}, async (service) => {
      await expect(service.compile('a', regex('('))).rejects.toMatchObject({ code: 'syntax' });
      await expect(service.compile('a', regex('[]'))).rejects.toMatchObject({ code: 'empty' });
      await service.compile('a', regex('a'));
      expect(service.counts).toMatchObject({ compiled: 1, refused: 2 });
    }));

  test('is ended where it takes too long; others are compiled all the same', () =>
    withService({}, async (service, expire) => {
      const slow = service.compile('a', regex('(a|b)*a(a|b){14}'));
      const other = service.compile('a', regex('a'));
      expire();
      await expect(slow).rejects.toMatchObject({ code: 'too-large' });
      expect((await other).words.length).toBeGreaterThan(0);
    }));

  test('serves tenants in turn, and lets none queue without end', () =>
    withService({ waitingPerTenant: 2 }, async (service) => {
      const done: string[] = [];
      const compile = (tenant: string, pattern: string) =>
        service.compile(tenant, regex(pattern)).then(() => done.push(tenant + pattern));
      const jobs = [compile('a', '1'), compile('a', '2'), compile('a', '3'), compile('b', '1')];
      expect(() => service.compile('a', regex('4'))).toThrow(/wait to be compiled/);
      await Promise.all(jobs);
      expect(done).toEqual(['a1', 'a2', 'b1', 'a3']);
    }));

  test('ends what waits when it is closed', async () => {
    const service = new GrammarService(HOST_CLOCK);
    const open = service.compile('a', regex('a'));
    const [outcome] = await Promise.allSettled([open, service.close()]);
    expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'shutting_down' } });
  });
});
