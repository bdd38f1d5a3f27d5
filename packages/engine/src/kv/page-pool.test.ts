import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pageKey, rootKey } from './page-key.ts';
import { PagePool } from './page-pool.ts';

describe('PagePool', () => {
  it('gives up cached pages oldest first, and only when nothing is free', () => {
    const pool = new PagePool(3);
    const [a, b] = [pool.take(), pool.take()];
    pool.publish(a, 'a');
    pool.publish(b, 'b');
    pool.release(a);
    pool.release(b);
    expect(pool.available).toBe(3);
    const c = pool.take();
    expect([a, b]).not.toContain(c);
    expect(pool.peek('a')).toBe('cached');
    expect(pool.take()).toBe(a);
    expect(pool.peek('a')).toBeUndefined();
    expect(pool.peek('b')).toBe('cached');
  });

  it('shares a page among holders and frees it after the last', () => {
    const pool = new PagePool(1);
    const page = pool.take();
    pool.publish(page, 'k');
    expect(pool.find('k')).toBe(page);
    pool.release(page);
    expect(pool.available).toBe(0);
    pool.release(page);
    expect(pool.available).toBe(1);
    expect(() => pool.release(page)).toThrow('once per holder');
  });

  it('says of a key whether its page is held, cached or not there', () => {
    const pool = new PagePool(2);
    const page = pool.take();
    pool.publish(page, 'k');
    expect([pool.peek('k'), pool.find('other')]).toEqual(['held', undefined]);
    pool.release(page);
    expect(pool.peek('k')).toBe('cached');
    expect([pool.available, pool.held]).toEqual([2, 0]);
    // One holder more takes it from what is available, two take it once.
    expect([pool.find('k'), pool.find('k')]).toEqual([page, page]);
    expect([pool.peek('k'), pool.available, pool.held]).toEqual(['held', 1, 1]);
  });

  it('leaves a key to the page that had it first, and a page its first key', () => {
    const pool = new PagePool(3);
    const [first, second] = [pool.take(), pool.take()];
    pool.publish(first, 'k');
    pool.publish(second, 'k');
    pool.publish(first, 'later');
    expect([pool.peek('k'), pool.peek('later')]).toEqual(['held', undefined]);
    // The second has no key of its own: it is free at once, and goes before what is cached.
    pool.release(first);
    pool.release(second);
    expect(pool.find('k')).toBe(first);
    expect([pool.take(), pool.take()]).toContain(second);
    expect(() => pool.take()).toThrow('needs an available page');
    expect(pool.peek('k')).toBe('held');
  });

  it('hands out a page without a key before any that is cached, however late it came', () => {
    const pool = new PagePool(2);
    const [cached, plain] = [pool.take(), pool.take()];
    pool.publish(cached, 'k');
    pool.release(cached);
    pool.release(plain);
    expect([pool.take(), pool.peek('k')]).toEqual([plain, 'cached']);
  });

  it('forgets the content of a page that it gives up, and lets it have another', () => {
    const pool = new PagePool(1);
    for (const key of ['a', 'b', 'c']) {
      const page = pool.take();
      expect([pool.peek('a'), pool.peek('b')]).toEqual([undefined, undefined]);
      pool.publish(page, key);
      expect(pool.peek(key)).toBe('held');
      pool.release(page);
      expect(pool.peek(key)).toBe('cached');
      if (key !== 'c') pool.release(pool.take());
    }
    expect(() => pool.publish(0, 'd')).toThrow('only held pages');
  });

  it('never hands out a held page, whatever is done to it', () => {
    const action = fc.oneof(
      fc.constant({ kind: 'take' as const }),
      fc.record({ kind: fc.constant('find' as const), key: fc.nat(9) }),
      fc.record({ kind: fc.constant('release' as const), pick: fc.nat(99) }),
      fc.record({ kind: fc.constant('publish' as const), pick: fc.nat(99), key: fc.nat(9) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
        const pool = new PagePool(5);
        const held: number[] = [];
        for (const step of actions) {
          if (step.kind === 'take' && pool.available > 0) {
            const page = pool.take();
            expect(held).not.toContain(page);
            held.push(page);
          } else if (step.kind === 'find') {
            const page = pool.find(`${step.key}`);
            if (page !== undefined) held.push(page);
          } else if (step.kind === 'release' && held.length > 0) {
            pool.release(held.splice(step.pick % held.length, 1)[0]!);
          } else if (step.kind === 'publish' && held.length > 0) {
            pool.publish(held[step.pick % held.length]!, `${step.key}`);
          }
          expect(pool.held).toBe(new Set(held).size);
        }
      }),
    );
  });
});

describe('page keys', () => {
  it('differ by tenant, prefix and tokens, and only by them', () => {
    const tokens = Uint32Array.of(1, 2, 3);
    const key = pageKey(rootKey('a'), tokens);
    expect(pageKey(rootKey('a'), Uint32Array.of(9, 1, 2, 3).subarray(1))).toBe(key);
    expect(pageKey(rootKey('b'), tokens)).not.toBe(key);
    expect(pageKey(key, tokens)).not.toBe(key);
    expect(pageKey(rootKey('a'), Uint32Array.of(1, 2, 4))).not.toBe(key);
  });
});
