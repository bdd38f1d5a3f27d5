import { InvariantError } from '@bridgekeeper/bridge';
import { describe, expect, test } from 'vitest';
import { PagePool } from './page-pool.ts';
import { type PagedSequence, PrefixCache } from './prefix-cache.ts';

const PAGE_TOKENS = 4;

function sequence(tokens: readonly number[], tenant = 't'): PagedSequence {
  const all = Uint32Array.from(tokens);
  return {
    request: { tenant },
    length: all.length,
    tokens: (from, to) => all.subarray(from, to),
    pages: [],
    pageKeys: [],
    published: 0,
  };
}

/** Gives the sequence pages of its own beyond those it has, and makes the full ones findable. */
function compute(cache: PrefixCache, pool: PagePool, one: PagedSequence, computed = one.length) {
  const pages = Math.ceil(one.length / PAGE_TOKENS);
  while (one.pages.length < pages) one.pages.push(pool.take());
  cache.publish(one, computed);
  return one;
}

function opened(pages = 16, enabled = true) {
  const pool = new PagePool(pages);
  return { pool, cache: new PrefixCache(pool, { pageTokens: PAGE_TOKENS, enabled }) };
}

const range = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);

describe('a prefix', () => {
  test('is found as far as it is equal, page by page, and never to the last token', () => {
    const { pool, cache } = opened();
    compute(cache, pool, sequence(range(14)));
    const matched = (tokens: readonly number[]) => cache.match(sequence(tokens)).pages;
    expect(matched(range(14))).toBe(3);
    expect(matched(range(30))).toBe(3);
    expect(matched(range(13))).toBe(3);
    expect(matched(range(12))).toBe(2);
    expect(matched([...range(8), 99, ...range(20, 9)])).toBe(2);
    expect(matched([...range(4), 99, ...range(20, 5)])).toBe(1);
    expect(matched([99, ...range(20, 1)])).toBe(0);
    // A page's key holds all that was before it: the second page alone is not found.
    expect(matched(range(10, 4))).toBe(0);
    expect(matched([...range(4), ...range(4), ...range(9)])).toBe(1);
  });

  test('is found by the same tenant only, and not at all where sharing is off', () => {
    const { pool, cache } = opened();
    compute(cache, pool, sequence(range(14), 'a'));
    expect(cache.match(sequence(range(14), 'b'))).toEqual({ pages: 0, fromCache: 0 });
    const off = opened(16, false);
    const one = compute(off.cache, off.pool, sequence(range(14)));
    expect(one.published).toBe(0);
    expect(off.cache.match(sequence(range(14)))).toEqual({ pages: 0, fromCache: 0 });
    for (const page of one.pages) off.pool.release(page);
    // Nothing was kept, although something was published past this cache.
    const on = new PrefixCache(off.pool, { pageTokens: PAGE_TOKENS, enabled: true });
    expect(on.match(sequence(range(14)))).toEqual({ pages: 0, fromCache: 0 });
    compute(on, off.pool, sequence(range(14)));
    expect(off.cache.match(sequence(range(14)))).toEqual({ pages: 0, fromCache: 0 });
  });

  test('costs available pages where no sequence holds it', () => {
    const { pool, cache } = opened();
    const first = compute(cache, pool, sequence(range(14)));
    expect(cache.match(sequence(range(14)))).toEqual({ pages: 3, fromCache: 0 });
    pool.release(first.pages[2]!);
    expect(cache.match(sequence(range(14)))).toEqual({ pages: 3, fromCache: 1 });
    // Its last page is not matched, so it costs nothing.
    expect(cache.match(sequence(range(12)))).toEqual({ pages: 2, fromCache: 0 });
    pool.release(first.pages[0]!);
    expect(cache.match(sequence(range(14)))).toEqual({ pages: 3, fromCache: 2 });
    expect(cache.match(sequence(range(6)))).toEqual({ pages: 1, fromCache: 1 });
    expect(cache.match(sequence([...range(12), 99]))).toEqual({ pages: 3, fromCache: 2 });
  });

  test('once claimed is held by both, and is not published again', () => {
    const { pool, cache } = opened();
    const first = compute(cache, pool, sequence(range(14)));
    const second = sequence(range(14));
    cache.claim(second, cache.match(second));
    expect(second.pages).toEqual(first.pages.slice(0, 3));
    expect(second.published).toBe(3);
    for (const page of first.pages) pool.release(page);
    expect(pool.held).toBe(3);
    compute(cache, pool, second);
    expect(cache.match(sequence(range(30))).pages).toBe(3);
    const gone = sequence(range(14));
    const match = cache.match(gone);
    gone.pageKeys[0] = 'no such key';
    expect(() => cache.claim(gone, match)).toThrow(InvariantError);
  });

  test('is findable as far as it was computed, in full pages, and grows', () => {
    const { pool, cache } = opened();
    const one = sequence(range(14));
    const found = () => cache.match(sequence(range(30))).pages;
    const steps = [0, 3, 4, 7, 8, 11, 14, 100].map((computed) => {
      compute(cache, pool, one, computed);
      return found();
    });
    expect(steps).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
    expect(one.published).toBe(3);
  });
});
