import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type GrammarOwner, GrammarPool } from './grammar-pool.ts';

function owner(digest: string, words: number, tenant = 'a'): GrammarOwner {
  return { tenant, grammar: { digest, words: new Uint32Array(words) } };
}

test('a grammar is found again by its tenant, and by no other', () => {
  const pool = new GrammarPool(1024);
  expect(pool.take(owner('g', 100), 0)).toEqual({ offset: 0, isNew: true });
  expect(pool.take(owner('g', 100), 0)).toEqual({ offset: 0, isNew: false });
  expect(pool.take(owner('g', 100, 'b'), 0)).toEqual({ offset: 128, isNew: true });
  expect(pool.counters).toEqual({ uploads: 2, hits: 1, evictions: 0 });
  expect([pool.held, pool.heldWords]).toEqual([2, 256]);
});

test('the least recently used gives way, and only once no launch can read it', () => {
  const pool = new GrammarPool(256);
  const [old, recent, next] = [owner('old', 128), owner('recent', 128), owner('next', 64)];
  for (const each of [recent, old]) pool.take(each, 0);
  pool.release(recent, 3);
  pool.release(old, 5);
  // Used again, so that `old` is the one that was not used for the longest time.
  pool.take(recent, 0);
  pool.release(recent, 6);
  expect(pool.fits(next, 4)).toBe(false);
  expect(pool.fits(next, 5)).toBe(true);
  expect(pool.take(next, 6)).toEqual({ offset: 128, isNew: true });
  expect(pool.take(recent, 6)).toEqual({ offset: 0, isNew: false });
  expect(pool.counters.evictions).toBe(1);
});

test('grammars in use never overlap or move, and what fits is placed', () => {
  const action = fc.record({ digest: fc.nat(9), leaves: fc.boolean(), waits: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const pool = new GrammarPool(640);
      const sizes = [1, 64, 65, 128, 200, 256, 300, 500, 640, 33];
      const inUse: { owner: GrammarOwner; offset: number }[] = [];
      let launched = 0;
      let settled = 0;
      for (const { digest, leaves, waits } of actions) {
        if (leaves) {
          const left = inUse.shift();
          if (left !== undefined) pool.release(left.owner, launched);
        }
        launched += 1;
        settled = Math.max(settled, launched - waits);
        const wanted = owner(String(digest), sizes[digest]!);
        if (!pool.fits(wanted, settled)) continue;
        const { offset } = pool.take(wanted, settled);
        expect(offset + sizes[digest]!).toBeLessThanOrEqual(640);
        for (const other of inUse) {
          const size = other.owner.grammar.words.length;
          if (other.owner.grammar.digest === String(digest)) expect(other.offset).toBe(offset);
          else
            expect(offset >= other.offset + size || offset + sizes[digest]! <= other.offset).toBe(
              true,
            );
        }
        inUse.push({ owner: wanted, offset });
      }
      // Whatever its size, a grammar fits once the others have left and no launch reads them.
      for (const { owner: left } of inUse) pool.release(left, launched);
      expect(pool.fits(owner('all', 640), launched)).toBe(true);
    }),
  );
});
