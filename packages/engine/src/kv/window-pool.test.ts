import { describe, expect, it } from 'vitest';
import { PrefixTree } from './prefix-tree.ts';
import { PAGE_TOKENS, sequenceOf } from './testing/page-world.ts';
import { WindowPages, WindowPool, windowPagesOfLaunch, windowPagesOfRow } from './window-pool.ts';

/** A window of three pages and one token more: that is what the token behind a page looks back. */
const SIZES = {
  pageTokens: PAGE_TOKENS,
  windowTokens: 3 * PAGE_TOKENS + 1,
  aheadTokens: 5,
  launchTokens: 2 * PAGE_TOKENS,
};

class World {
  readonly window: WindowPool;
  readonly tree: PrefixTree;

  constructor(windowPages: number, pages = 1000) {
    this.window = new WindowPool(windowPages, SIZES);
    const { pageTokens } = SIZES;
    this.tree = new PrefixTree({ pages, pageTokens, isEnabled: true, window: this.window });
  }

  /** Computes a sequence, a launch's tokens at a time; it holds all that it holds at its end. */
  compute(tokens: readonly number[], promptLength = tokens.length) {
    const { window, tree } = this;
    const sequence = {
      ...sequenceOf(tokens),
      promptLength,
      lastPosition: tokens.length,
      window: new WindowPages(),
    };
    const found = tree.claim(sequence, tree.match(sequence));
    sequence.pages.push(...tree.take(Math.ceil(tokens.length / PAGE_TOKENS) - found));
    for (let computed = found * PAGE_TOKENS; computed < tokens.length; ) {
      window.slide(sequence, computed);
      computed = Math.min(tokens.length, computed + SIZES.launchTokens);
      window.extend(sequence, computed);
      tree.publish(sequence, computed);
    }
    window.slide(sequence, tokens.length);
    return { sequence, found };
  }

  match(tokens: readonly number[]): number {
    return this.tree.match({ ...sequenceOf([...tokens, 0]), window: new WindowPages() }).pages;
  }
}

const text = (from: number, pages: number) =>
  Array.from({ length: pages * PAGE_TOKENS }, (_, i) => from + i);

describe('pages of windows', () => {
  it('are three of a window, one in which it begins or ends, and those ahead', () => {
    expect(windowPagesOfRow(SIZES)).toBe(3 + 1 + 2);
    expect(windowPagesOfLaunch(SIZES)).toBe(2);
    // A token that sees itself alone looks back at nothing.
    expect(windowPagesOfRow({ ...SIZES, windowTokens: 1 })).toBe(0 + 1 + 2);
    expect(windowPagesOfRow({ ...SIZES, windowTokens: 2 })).toBe(1 + 1 + 2);
  });

  it('go as the window passes them, and stay findable while nothing else needs them', () => {
    const world = new World(20);
    const { sequence } = world.compute(text(0, 15));
    expect(world.window.held).toBe(3);
    expect(sequence.window.first).toBe(12);
    world.tree.release(sequence);
    expect([world.window.held, world.window.reservedFraction]).toEqual([0, 0]);
    expect([15, 7, 3].map((pages) => world.match(text(0, pages)))).toEqual([15, 7, 3]);
  });

  it('let a prefix be continued where a whole window is there, and at no other place', () => {
    const world = new World(8);
    const { sequence } = world.compute(text(0, 15));
    world.tree.release(sequence);
    // Of 15 pages the last eight, from 7 on, have their windows still: three are a window.
    expect([15, 14, 11].map((pages) => world.match(text(0, pages)))).toEqual([15, 14, 11]);
    expect([10, 9, 3, 1].map((pages) => world.match(text(0, pages)))).toEqual([10, 0, 0, 0]);
  });

  it('of a conversation that ended outlive a long prompt that only passes', () => {
    const world = new World(30);
    const one = world.compute(text(0, 9)).sequence;
    world.tree.release(one);
    const long = world.compute(text(1000, 400)).sequence;
    world.tree.release(long);
    expect(world.match(text(0, 9))).toBe(9);
    expect(world.match(text(1000, 200))).toBe(0);
  });

  it('where a prompt ended outlive it, whatever the answer was', () => {
    const world = new World(30);
    world.tree.release(world.compute(text(0, 20), 9 * PAGE_TOKENS).sequence);
    world.tree.release(world.compute(text(1000, 400)).sequence);
    expect([20, 19, 9, 8].map((pages) => world.match(text(0, pages)))).toEqual([20, 9, 9, 8]);
  });

  it('where several went on outlive it as well', () => {
    const world = new World(30);
    for (const from of [5000, 6000, 7000]) {
      const { sequence, found } = world.compute([...text(0, 8), ...text(from, 10)]);
      expect(found).toBe(from === 5000 ? 0 : 8);
      world.tree.release(sequence);
    }
    world.tree.release(world.compute(text(1000, 400)).sequence);
    expect(world.match([...text(0, 8), ...text(8000, 2)])).toBe(8);
  });

  it('are promised before a sequence begins, whole windows and a launch', () => {
    const world = new World(windowPagesOfRow(SIZES) + windowPagesOfLaunch(SIZES) + 5);
    const [one] = [world.compute(text(0, 30)).sequence];
    const waiting = (pages: number) => ({
      ...sequenceOf(text(100, pages)),
      promptLength: pages * PAGE_TOKENS,
      lastPosition: pages * PAGE_TOKENS,
      window: new WindowPages(),
    });
    // Five pages are left: a sequence of so many has no more, however long a window is.
    expect([5, 6, 100].map((pages) => world.window.fits(waiting(pages)))).toEqual([
      true,
      false,
      false,
    ]);
    world.tree.release(one);
    expect(world.window.fits(waiting(100))).toBe(true);
  });

  it('go with the pages of their contexts', () => {
    const world = new World(30, 12);
    world.tree.release(world.compute(text(0, 9)).sequence);
    world.tree.release(world.compute(text(500, 12)).sequence);
    expect(world.match(text(0, 9))).toBe(0);
    expect(world.match(text(500, 12))).toBe(12);
  });
});
