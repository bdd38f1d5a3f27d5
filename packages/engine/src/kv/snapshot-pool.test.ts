import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NOWHERE, PageNode } from './page-node.ts';
import { SnapshotPool } from './snapshot-pool.ts';

const PAGE = 4;
const BY = { request: { tenant: 't' } };

function opened(places: number, launchNs = 0) {
  const prices = { recomputeNs: () => 1, launchNs: () => launchNs };
  return new SnapshotPool({ places, pageTokens: PAGE, prices, costLaunches: 1 });
}

/** What is said of snapshots in docs/internals/kv.md, by walking over all of them each time. */
class Told {
  kept: { node: PageNode; interest: number; isUsed: boolean; floor: number }[] = [];
  floor = 0;
  readonly counters = { taken: 0, used: 0, evicted: 0 };

  before({ parent }: PageNode) {
    for (let node = parent; node !== null; node = node.parent) {
      const found = this.kept.find((each) => each.node === node);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  take(node: PageNode, places: number, isBranch: boolean): void {
    if (this.kept.some((each) => each.node === node)) return;
    if (this.kept.length === places) {
      const worths = this.kept.map((each) => {
        const saved = each.node.index - (this.before(each.node)?.node.index ?? -1);
        return each.floor + each.interest * saved;
      });
      this.floor = Math.min(...worths);
      this.kept.splice(worths.indexOf(this.floor), 1);
      this.counters.evicted += 1;
    }
    const before = this.before(node);
    if (before !== undefined) before.interest = Math.max(0, before.interest - 1);
    this.counters.taken += 1;
    this.kept.push({ node, interest: isBranch ? 2 : 1, isUsed: false, floor: this.floor });
  }

  use(node: PageNode): void {
    this.counters.used += 1;
    const at = this.kept.findIndex((each) => each.node === node);
    const [kept] = this.kept.splice(at, 1);
    const { interest, isUsed } = kept!;
    const more = isUsed ? Math.min(8, interest + 1) : interest;
    this.kept.push({ node, interest: more, isUsed: true, floor: this.floor });
  }
}

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom('take', 'take', 'take', 'use', 'use', 'drop'),
    at: fc.nat(1000),
    isBranch: fc.boolean(),
  }),
  { minLength: 10, maxLength: 150 },
);

test('what is kept is what is worth most, each at a place of its own', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.array(fc.nat(1000), { minLength: 5, maxLength: 60 }),
      steps,
      (places, parents, all) => {
        const nodes: PageNode[] = [];
        for (const [at, draw] of parents.entries()) {
          // Long chains with some branches: most continue one of the last.
          const parent = draw % 7 === 0 ? null : nodes[at - 1 - (draw % 3)];
          nodes.push(new PageNode(`${at}`, 't', parent ?? null));
        }
        const pool = opened(places);
        const told = new Told();
        for (const { kind, at, isBranch } of all) {
          const node = nodes[at % nodes.length]!;
          if (kind === 'take') {
            const pages = node.index + 1;
            const branchPages = isBranch ? pages : 0;
            const one = { ...BY, length: pages * PAGE + 1, snapshotPages: 0, branchPages };
            const isKept = node.snapshot !== NOWHERE;
            expect(pool.take(node, one) === NOWHERE).toBe(isKept);
            expect(one.snapshotPages).toBe(pages);
            told.take(node, places, isBranch);
          } else if (told.kept.length > 0) {
            const { node } = told.kept[at % told.kept.length]!;
            if (kind === 'use') {
              expect(pool.use(node)).toBe(node.snapshot);
              told.use(node);
            } else {
              pool.drop(node);
              told.kept = told.kept.filter((each) => each.node !== node);
            }
          }
          const kept = nodes.filter(({ snapshot }) => snapshot !== NOWHERE);
          expect(new Set(kept)).toEqual(new Set(told.kept.map((each) => each.node)));
          expect(new Set(kept.map(({ snapshot }) => snapshot)).size).toBe(kept.length);
          expect(pool.held).toBe(kept.length);
        }
        expect(pool.counters).toEqual(told.counters);
      },
    ),
    { numRuns: 300 },
  );
});

test('only what is kept is used, and none is taken where there is no room for any', () => {
  const node = new PageNode('a', 't', null);
  const one = { ...BY, length: 5, snapshotPages: 0, branchPages: 0 };
  expect(opened(0).take(node, one)).toBe(NOWHERE);
  expect(() => opened(2).use(node)).toThrow('only prefixes with a snapshot are continued');
});

/** The last of so many pages, and a sequence that ends there. */
function ending(pages: number, tenant = 't') {
  let node: PageNode | null = null;
  for (let at = 0; at < pages; at++) node = new PageNode(`${at}`, tenant, node);
  const rest = { length: pages * PAGE + 1, snapshotPages: 0, branchPages: 0 };
  return { node: node!, one: { request: { tenant }, ...rest } };
}

test('what was wanted by many can go, too', () => {
  const pool = opened(2);
  const [popular, large, other] = [ending(1), ending(9), ending(1)];
  for (const { node, one } of [popular, large]) pool.take(node, one);
  for (let times = 0; times < 100; times++) pool.use(popular.node);
  // Eight are believed to come again, and save a page each.
  pool.take(other.node, other.one);
  expect([popular, large].map(({ node }) => node.snapshot !== NOWHERE)).toEqual([false, true]);
});

test('how often prompts come again is forgotten as it changes', () => {
  // Of ten pages, so that snapshots pay where three in five are used.
  const pool = opened(4, 6);
  const isWorth = () => pool.pays(ending(10).one, 10);
  expect(isWorth()).toBe(false);
  for (let times = 0; times < 1000; times++) pool.miss(ending(1).one);
  expect(isWorth()).toBe(true);
  let lonely = 0;
  for (; isWorth(); lonely++) {
    const { node, one } = ending(3);
    pool.take(node, one);
    pool.drop(node);
  }
  // Of 64 that are remembered, fewer than three in five: halved once at most on the way.
  expect(lonely).toBeGreaterThan(64 / 5);
  expect(lonely).toBeLessThan((64 * 2) / 5 + 1);
});

test('what one tenant does changes nothing for another', () => {
  const pool = opened(4, 6);
  const isWorthTo = (tenant: string) => pool.pays(ending(10, tenant).one, 10);
  for (let times = 0; times < 100; times++) pool.miss(ending(1, 'a').one);
  expect([isWorthTo('a'), isWorthTo('b')]).toEqual([true, false]);
  // As many as one likes, of which some are forgotten.
  for (let many = 0; many < 5000; many++) pool.miss(ending(1, `salt ${many}`).one);
  expect([isWorthTo('a'), isWorthTo('b')]).toEqual([false, false]);
  expect(isWorthTo('salt 4999')).toBe(true);
});
