import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { pageKey, rootKey } from './page-key.ts';
import { DEVICE, DISK, HOST, type PageNode } from './page-node.ts';
import type { PagedSequence } from './paged-sequence.ts';
import { PrefixTree } from './prefix-tree.ts';
import { SnapshotPool } from './snapshot-pool.ts';
import { type Faults, PAGE_TOKENS, PageWorld, sequenceOf } from './testing/page-world.ts';
import { sumOfKvShares } from './tiers/kv-shares.ts';
import type { KvPart, RestoreRequest } from './tiers/movement.ts';
import { createTierPolicy, TIER_POLICY_NAMES, type TierPolicyName } from './tiers/policies.ts';
import type { KvPrices } from './tiers/prices.ts';
import { WindowPool } from './window-pool.ts';

/** Pages that cost 10 to compute and 1 to move either way. */
const PRICES = pricesOf(() => 10);

function pricesOf(recomputeNs: (index: number) => number): KvPrices {
  return { recomputeNs, launchNs: () => 0, writeNs: () => 1, readNs: () => 1 };
}

function opened(pages = 16, isEnabled = true) {
  return new PrefixTree({ pages, pageTokens: PAGE_TOKENS, isEnabled });
}

function tiered(world: PageWorld, name: TierPolicyName = 'lru', prices = PRICES) {
  const tiers = { mover: world, prices, policy: createTierPolicy(name, prices) };
  const { length: pages } = world.pages;
  return new PrefixTree({ pages, pageTokens: PAGE_TOKENS, isEnabled: true, tiers });
}

/** Gives the sequence what it lacks, and makes its full pages findable. */
function compute(tree: PrefixTree, one: PagedSequence, computed = one.length) {
  const pages = Math.ceil(one.length / PAGE_TOKENS);
  one.pages.push(...tree.take(pages - one.pages.length));
  tree.publish(one, computed);
  return one;
}

/** A request from its beginning to its end, everything restored that is in stores. */
function serve(tree: PrefixTree, world: PageWorld, tokens: readonly number[], tenant = 't') {
  const one = sequenceOf(tokens, tenant);
  const match = tree.match(one);
  tree.claim(one, match, Infinity);
  while (world.endRestore()) tree.settle();
  compute(tree, one);
  for (const [index, page] of one.pages.entries()) world.pages[page] = one.pageKeys[index];
  tree.release(one);
  return match;
}

/** By why, as far as there are any. */
function recomputed({ accounts }: PrefixTree) {
  return Object.fromEntries(Object.entries(accounts.total.recomputed).filter(([, pages]) => pages));
}

const range = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);

describe('a prefix', () => {
  test('is found as far as it is equal, page by page, and never to the last token', () => {
    const tree = opened();
    compute(tree, sequenceOf(range(14)));
    const matched = (tokens: readonly number[]) => tree.match(sequenceOf(tokens)).pages;
    expect(matched(range(14))).toBe(3);
    expect(matched(range(30))).toBe(3);
    expect(matched(range(13))).toBe(3);
    expect(matched(range(12))).toBe(2);
    expect(matched([...range(8), 99, ...range(20, 9)])).toBe(2);
    expect(matched([99, ...range(20, 1)])).toBe(0);
    // A page's key holds all that was before it: the second page alone is not found.
    expect(matched(range(10, 4))).toBe(0);
    expect(matched([...range(4), ...range(4), ...range(9)])).toBe(1);
  });

  test('is found by the same tenant only, and not at all where sharing is off', () => {
    const tree = opened();
    compute(tree, sequenceOf(range(14), 'a'));
    expect(tree.match(sequenceOf(range(14), 'b')).pages).toBe(0);
    const off = opened(16, false);
    const one = compute(off, sequenceOf(range(14)));
    expect(one.published).toBe(0);
    expect(off.match(sequenceOf(range(14))).pages).toBe(0);
    off.release(one);
    expect([off.available, off.held]).toEqual([16, 0]);
  });

  test('costs available pages where no sequence holds it', () => {
    const tree = opened();
    const first = compute(tree, sequenceOf(range(14)));
    expect(tree.match(sequenceOf(range(14)))).toEqual({ pages: 3, onDevice: 3, fromCache: 0 });
    tree.release(first);
    expect(tree.match(sequenceOf(range(14)))).toEqual({ pages: 3, onDevice: 3, fromCache: 3 });
    const second = sequenceOf(range(14));
    expect(tree.claim(second, tree.match(second))).toBe(3);
    expect([tree.held, second.published]).toEqual([3, 3]);
  });

  test('is findable as far as it was computed, in full pages, and grows', () => {
    const tree = opened();
    const one = sequenceOf(range(14));
    const found = () => tree.match(sequenceOf(range(30))).pages;
    const steps = [0, 3, 4, 7, 8, 11, 14, 100].map((computed) => {
      compute(tree, one, computed);
      return found();
    });
    expect(steps).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
  });

  test('that two sequences computed each for itself is the first one’s until it lets go', () => {
    const tree = opened();
    const first = compute(tree, sequenceOf(range(9)));
    const second = compute(tree, sequenceOf(range(9)));
    expect([second.published, tree.held]).toEqual([0, 6]);
    tree.release(first);
    tree.publish(second, 9);
    expect(second.published).toBe(2);
    expect(tree.held).toBe(3);
    tree.release(second);
    expect([tree.available, tree.match(sequenceOf(range(9))).pages]).toEqual([16, 2]);
  });
});

describe('eviction', () => {
  test('gives up what was used longest ago, from the tail, and only when nothing is free', () => {
    const tree = opened(8);
    tree.release(compute(tree, sequenceOf(range(13))));
    tree.release(compute(tree, sequenceOf(range(13, 50))));
    const found = (from: number) => tree.match(sequenceOf(range(13, from))).pages;
    const own = sequenceOf(range(8, 90));
    own.pages.push(...tree.take(2));
    expect([found(0), found(50)]).toEqual([3, 3]);
    own.pages.push(...tree.take(1));
    expect([found(0), found(50)]).toEqual([2, 3]);
    own.pages.push(...tree.take(3));
    expect([found(0), found(50)]).toEqual([0, 2]);
    expect(() => tree.take(3)).toThrow('pages are taken that are available');
  });

  test('brings pages to host memory, from where they come back', () => {
    const world = new PageWorld(4, 8);
    const tree = tiered(world);
    serve(tree, world, range(13));
    serve(tree, world, range(13, 50));
    expect(tree.accounts.total.spilled).toBe(3);
    expect(serve(tree, world, range(13))).toEqual({ pages: 3, onDevice: 0, fromCache: 0 });
    expect(tree.accounts.total.restored).toBe(3);
    // Its copy below is kept: leaving again writes nothing.
    serve(tree, world, range(13, 50));
    expect(tree.accounts.total.spilled).toBe(6);
    expect(tree.accounts.tenants().get('t')).toEqual(tree.accounts.total);
  });

  test('goes on to disk, and takes along what continues a page that is lost', () => {
    const world = new PageWorld(4, 3, 3);
    const tree = tiered(world);
    for (const from of [0, 50, 100]) serve(tree, world, range(13, from));
    expect(tree.accounts.total.resident).toEqual([3, 3, 3]);
    expect(serve(tree, world, range(13)).pages).toBe(3);
    serve(tree, world, range(13, 150));
    serve(tree, world, range(13, 200));
    const { resident } = tree.accounts.total;
    expect(resident[0]! + resident[1]! + resident[2]!).toBeLessThanOrEqual(9);
  });

  test('is brought from disk unless that has too much to do, whatever the lane has', () => {
    const asked = (queue: { restoreNs: number; diskNs: number }) => {
      const world = new PageWorld(5, 3, 8);
      const tree = tiered(world);
      for (const from of [0, 50, 100]) serve(tree, world, range(13, from));
      expect(tree.accounts.total.resident[DISK]).toBeGreaterThan(0);
      world.queue = () => ({ spillNs: 0, ...queue });
      const one = sequenceOf(range(13));
      tree.claim(one, tree.match(one));
      return { recomputed: recomputed(tree), restores: world.restores.size };
    };
    expect(asked({ restoreNs: 0, diskNs: 0 })).toEqual({ recomputed: {}, restores: 2 });
    const busy = { recomputed: { lane_busy: 3 }, restores: 0 };
    expect(asked({ restoreNs: 0, diskNs: 100 })).toEqual(busy);
    expect(asked({ restoreNs: 100, diskNs: 0 })).toEqual(busy);
  });

  test('goes on to disk only as far as the disk’s own price allows', () => {
    const asked = (diskNs: number) => {
      const prices: KvPrices = {
        ...PRICES,
        writeNs: (tier) => (tier === 'disk' ? diskNs : 1),
        readNs: (tier) => (tier === 'disk' ? diskNs + 1 : 1),
      };
      const world = new PageWorld(5, 6, 60);
      const tree = tiered(world, 'priced', prices);
      for (let round = 0; round < 400; round++) {
        tree.advance(round * 10e9);
        serve(tree, world, range(13, 50 * (round % 8)));
      }
      return tree.accounts.total;
    };
    expect(asked(1).demoted).toBeGreaterThan(0);
    const dear = asked(100);
    expect(dear.spilled).toBeGreaterThan(0);
    expect(dear.demoted).toBe(0);
  });

  test('of one tenant’s pages is counted as that tenant’s', () => {
    const world = new PageWorld(4, 8);
    const tree = tiered(world);
    serve(tree, world, range(13), 'a');
    serve(tree, world, range(13), 'b');
    expect(tree.accounts.tenants().get('a')).toMatchObject({ spilled: 3, resident: [0, 3, 0] });
    expect(tree.accounts.tenants().get('b')).toMatchObject({ spilled: 0, resident: [3, 0, 0] });
    // No prompt of b finds, or waits for, what a has in a store.
    expect(tree.match(sequenceOf(range(13), 'c')).pages).toBe(0);
  });

  test.each(['device', 'host', 'disk'])(
    'does the same for a tenant whether or not another has its prompt, on the %s',
    (tier) => {
      const asked = (from: number) => {
        const world = new PageWorld(4, 3, 3);
        const tree = tiered(world);
        const others = { device: 0, host: 1, disk: 2 }[tier]!;
        for (let at = 0; at <= others; at++) serve(tree, world, range(13, 50 * at), 'a');
        const place = { device: DEVICE, host: HOST, disk: DISK }[tier]!;
        expect(tree.accounts.total.resident[place]).toBe(3);
        const match = serve(tree, world, range(13, from), 'b');
        const isThere = (pages: readonly (string | undefined)[]) => pages.map((key) => !!key);
        const { host, disk } = world.stores;
        return [match, tree.accounts.total, [world.pages, host, disk].map(isThere)];
      };
      expect(asked(0)).toEqual(asked(900));
    },
  );
});

describe('what is computed again', () => {
  const never: Faults = {
    refuses: () => false,
    losesSpill: () => false,
    failsRestore: () => false,
  };

  test('though it is in a store, is counted by what spoke against bringing it', () => {
    // Bringing three pages takes 3 on a lane with nothing to do.
    const asked = (pageNs: number, queueNs: number) => {
      const world = new PageWorld(5, 8);
      const tree = tiered(
        world,
        'lru',
        pricesOf(() => pageNs),
      );
      serve(tree, world, range(13));
      serve(tree, world, range(17, 50));
      world.queue = () => ({ spillNs: 0, restoreNs: queueNs, diskNs: 1000 });
      const one = sequenceOf(range(13));
      tree.claim(one, tree.match(one));
      compute(tree, one);
      world.endRestores();
      tree.settle();
      tree.release(one);
      return recomputed(tree);
    };
    expect(asked(10, 0)).toEqual({});
    expect(asked(0.1, 0)).toEqual({ sooner: 3 });
    expect(asked(10, 100)).toEqual({ lane_busy: 3 });
  });

  test('though it was computed before, is counted by why its content is nowhere', () => {
    const asked = (world: PageWorld, name: TierPolicyName = 'lru') => {
      const tree = tiered(world, name);
      serve(tree, world, range(13));
      serve(tree, world, range(17, 50));
      tree.settle();
      serve(tree, world, range(13));
      return recomputed(tree);
    };
    // Nobody used it twice.
    expect(asked(new PageWorld(5, 8), 'second-touch')).toEqual({ not_written: 3 });
    // There is no place below.
    expect(asked(new PageWorld(5, 0))).toEqual({ evicted: 3 });
    const losing = { ...never, losesSpill: () => true };
    expect(asked(new PageWorld(5, 8, 0, losing))).toEqual({ lost: 3 });
    // The mover takes half of what it is given, and the first page is there: it is brought.
    const refusing = { ...never, refuses: () => true };
    expect(asked(new PageWorld(5, 8, 0, refusing))).toEqual({ refused: 2 });
    // What is new is none of it.
    const tree = tiered(new PageWorld(8, 8));
    compute(tree, sequenceOf(range(13)));
    expect(recomputed(tree)).toEqual({});
  });

  test('is each tenant’s own', () => {
    const world = new PageWorld(5, 8);
    const tree = tiered(world, 'second-touch');
    serve(tree, world, range(13), 'a');
    serve(tree, world, range(17, 50), 'b');
    serve(tree, world, range(13), 'a');
    const of = (tenant: string) => tree.accounts.tenants().get(tenant)!.recomputed.not_written;
    expect([of('a'), of('b')]).toEqual([3, 0]);
  });
});

describe('a restore', () => {
  /** A tree whose first 3 pages of range(13) are in host memory only. */
  function spilled() {
    const world = new PageWorld(5, 8);
    const tree = tiered(world);
    serve(tree, world, range(13));
    serve(tree, world, range(17, 50));
    return { world, tree };
  }

  test('is waited for by all whose prefix it is', () => {
    const { world, tree } = spilled();
    const [one, two] = [sequenceOf(range(13)), sequenceOf(range(13))];
    expect(tree.claim(one, tree.match(one), Infinity)).toBe(0);
    expect(tree.claim(two, tree.match(two), Infinity)).toBe(0);
    // In two parts, the last pages first.
    expect([world.restores.size, one.awaited!.end, two.awaited!.end]).toEqual([2, 3, 3]);
    expect(world.restores.get(0)!.moves).toHaveLength(2);
    tree.settle();
    expect(one.awaited!.arrivals.size).toBe(2);
    world.endRestore();
    world.endRestore();
    tree.settle();
    expect([one.awaited!.arrivals.size, two.awaited!.arrivals.size]).toEqual([0, 0]);
    expect([one.pages, tree.held]).toEqual([two.pages, 3]);
    tree.release(one);
    tree.release(two);
    expect(tree.held).toBe(0);
  });

  test('that no one waits for any more is cancelled, and its pages are free', () => {
    const { world, tree } = spilled();
    const [one, two] = [sequenceOf(range(13)), sequenceOf(range(9))];
    tree.claim(one, tree.match(one), Infinity);
    tree.claim(two, tree.match(two), Infinity);
    tree.release(one);
    expect([world.restores.size, tree.held]).toEqual([2, 3]);
    tree.release(two);
    expect([world.restores.size, tree.held, tree.isRestoring]).toEqual([0, 0, false]);
    expect(tree.match(sequenceOf(range(13)))).toEqual({ pages: 3, onDevice: 0, fromCache: 0 });
  });

  test('that fails is told to all who wait, who then compute', () => {
    const faults = { refuses: () => false, losesSpill: () => false, failsRestore: () => true };
    const world = new PageWorld(5, 8, 0, faults);
    const tree = tiered(world);
    serve(tree, world, range(13));
    serve(tree, world, range(17, 50));
    const one = sequenceOf(range(13));
    tree.claim(one, tree.match(one), Infinity);
    world.endRestore();
    expect([...tree.settle()]).toEqual([one]);
    tree.release(one);
    one.isDistrustful = true;
    expect([tree.match(one).pages, tree.held]).toEqual([0, 0]);
    // Its three pages are still in the store, and are computed.
    tree.claim(one, tree.match(one));
    expect(recomputed(tree)).toEqual({ failed: 3 });
    compute(tree, one);
    tree.release(one);
    expect(recomputed(tree)).toEqual({ failed: 3 });
  });

  test('brings the back while the front is computed, where both are as long', () => {
    const world = new PageWorld(8, 16);
    // Computing is three times as long as moving: 1 of 7 is computed in 3 while 6 come in 6.
    const prices = pricesOf(() => 3);
    const tree = tiered(world, 'lru', prices);
    serve(tree, world, range(29));
    serve(tree, world, range(29, 50));
    const one = sequenceOf(range(29));
    const match = tree.match(one);
    expect(match.pages).toBe(7);
    expect(tree.claim(one, match, 0)).toBe(0);
    expect(one.awaited).toMatchObject({ first: 1, end: 7 });
    expect(recomputed(tree)).toEqual({ overlapped: 1 });
    tree.publish(one, 4);
    while (world.endRestore()) {}
    tree.settle();
    expect([one.published, one.awaited!.arrivals.size]).toEqual([1, 0]);
  });

  /** One that computes 1 of 7 pages and waits for 3 parts of two: 5 and 6, 3 and 4, 1 and 2. */
  function waiting() {
    const world = new PageWorld(8, 16);
    const tree = tiered(
      world,
      'lru',
      pricesOf(() => 3),
    );
    serve(tree, world, range(29));
    serve(tree, world, range(29, 50));
    const one = sequenceOf(range(29));
    tree.claim(one, tree.match(one), 0);
    tree.publish(one, 4);
    expect([one.awaited!.first, one.awaited!.arrivals.size]).toEqual([1, 3]);
    return { world, tree, one };
  }

  test('is computed from the front instead, as far as the lane has become too slow for it', () => {
    const { world, tree, one } = waiting();
    world.dueNs = (id) => [4, 5, 6][id]!;
    tree.reconsider(one, 0);
    expect(one.awaited!.first).toBe(1);
    // Two pages take 6: the front is there sooner than after 20, and then all of it is.
    world.dueNs = (id) => [4, 8, 20][id]!;
    tree.reconsider(one, 0);
    expect([one.awaited!.first, world.restores.size]).toEqual([3, 2]);
    expect(tree.accounts.total.restored).toBe(4);
    expect(recomputed(tree)).toEqual({ overlapped: 1, lane_slower: 2 });
    expect(sumOfKvShares(one.kvShares)).toEqual([
      { what: 'recomputed', why: 'overlapped', tokens: PAGE_TOKENS },
      { what: 'restored', from: 'host', tokens: 4 * PAGE_TOKENS },
      { what: 'recomputed', why: 'lane_slower', tokens: 2 * PAGE_TOKENS },
    ]);
    // While others wait for the device, what comes is waited for.
    world.dueNs = (id) => [4, 30, 20][id]!;
    tree.reconsider(one, 9);
    expect(one.awaited!.first).toBe(3);
    world.dueNs = () => 1000;
    tree.reconsider(one, 0);
    expect([one.awaited, world.restores.size, tree.isRestoring]).toEqual([null, 0, false]);
    tree.publish(one, 28);
    tree.release(one);
    expect([tree.held, tree.match(sequenceOf(range(29))).onDevice]).toEqual([0, 7]);
  });

  test('that another waits for is not given up for one of them', () => {
    const { world, tree, one } = waiting();
    const two = sequenceOf(range(29));
    tree.claim(two, tree.match(two), 0);
    world.dueNs = () => 1000;
    tree.reconsider(one, 0);
    expect([one.awaited!.first, world.restores.size]).toEqual([1, 3]);
  });

  test('that is late has failed', () => {
    const { world, tree, one } = waiting();
    tree.advance(tree.lateNs! - 1);
    expect(tree.settle().size).toBe(0);
    tree.advance(tree.lateNs!);
    expect([...tree.settle()]).toEqual([one]);
    tree.release(one);
    expect([tree.held, tree.isRestoring, world.restores.size]).toEqual([0, false, 0]);
    expect(tree.accounts.total.late).toBe(6);
  });
});

/** Operations of the random test: a million where KV_OPERATIONS says so. */
const OPERATIONS = Number(process.env.KV_OPERATIONS ?? 20_000);

describe('over random requests, restores that fail, spills that are lost and refused', () => {
  test.each(TIER_POLICY_NAMES)(
    '%s leaks nothing and mixes nothing up',
    (name) => {
      const runs = 10;
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (seed) => {
          churn(name, seed, Math.ceil(OPERATIONS / runs / TIER_POLICY_NAMES.length));
        }),
        { numRuns: runs },
      );
    },
    3_600_000,
  );

  test.each([
    ['windows', ['window']],
    ['states', ['state']],
    ['both', ['window', 'state']],
  ] as const)(
    'nor do nodes that have %s beside their pages, whatever the policy',
    (_, sides) => {
      const runs = 10;
      const operations = Math.ceil(OPERATIONS / runs / 4);
      const check = (seed: number) =>
        churn(TIER_POLICY_NAMES[seed % TIER_POLICY_NAMES.length]!, seed, operations, sides);
      fc.assert(
        fc.property(fc.nat(2 ** 31 - 1), (seed) => {
          check(seed);
        }),
        { numRuns: runs },
      );
      // What happens over these is the same on every machine.
      const seen = { spilled: 0, demoted: 0, restored: 0, avoided: 0, refused: 0, lost: 0 };
      const recomputed = { sooner: 0, lane_busy: 0, failed: 0 };
      for (let seed = 0; seed < 2 * runs; seed++) {
        const { parts, total } = check(seed);
        for (const side of sides) {
          for (const what of keysIn(seen)) seen[what] += parts[side][what];
        }
        for (const why of keysIn(recomputed)) recomputed[why] += total.recomputed[why];
      }
      const rare = Object.entries({ ...seen, ...recomputed }).filter(([, times]) => times < 3);
      expect(rare).toEqual([]);
    },
    3_600_000,
  );

  test('nor does what comes for one request leave a held page behind one that is not', () => {
    // An arrival of pages 0 and 4 outlived who waited for both: another waited for page 0 alone.
    churn('lru', 12, 15_500, ['state']);
  });
});

const keysIn = <T extends object>(value: T) => Object.keys(value) as (keyof T)[];

interface Computing {
  readonly one: PagedSequence;
  /** Tokens. */
  computed: number;
  /** Tokens after which its row's state is. */
  state: number;
  readonly keys: readonly string[];
}

/** Of each page that its tokens begin. */
function keysOf({ request, length, tokens }: PagedSequence): string[] {
  const keys: string[] = [];
  for (let from = 0; from < length; from += PAGE_TOKENS) {
    const parent = keys.at(-1) ?? rootKey(request.tenant);
    keys.push(pageKey(parent, tokens(from, Math.min(length, from + PAGE_TOKENS))));
  }
  return keys;
}

/** A window of two pages and a part of a third. */
const WINDOW = {
  pageTokens: PAGE_TOKENS,
  windowTokens: 2 * PAGE_TOKENS,
  aheadTokens: 0,
  launchTokens: 12,
};
const WINDOW_PAGES = 2;

/**
 * So many random operations; what a sequence would read is what it should, after each: its pages,
 * those of its window, and where it begins the state after what came before.
 */
function churn(
  name: TierPolicyName,
  seed: number,
  operations: number,
  sides: readonly ('window' | 'state')[] = [],
) {
  let state = seed >>> 0;
  const draw = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const faults = {
    refuses: () => draw(8) === 0,
    losesSpill: () => draw(30) === 0,
    failsRestore: () => draw(6) === 0,
  };
  const host = 1 + draw(24);
  const disk = draw(3) * 8;
  const hasWindow = sides.includes('window');
  const hasState = sides.includes('state');
  const windowPlaces = { device: 9 + draw(6), host: draw(16), disk: disk && draw(8) };
  const statePlaces = { device: 1 + draw(4), host: draw(8), disk: disk && draw(4) };
  const world = new PageWorld(12, host, disk, faults, {
    ...(hasWindow && { window: windowPlaces }),
    ...(hasState && { state: statePlaces }),
  });
  const isCheap = () => sides.length > 0 && draw(8) === 0;
  const prices = pricesOf((index) => (isCheap() ? 0.1 : 3 + index));
  const window = hasWindow ? new WindowPool(windowPlaces.device, WINDOW) : undefined;
  const snapshots = hasState
    ? new SnapshotPool({
        places: statePlaces.device,
        pageTokens: PAGE_TOKENS,
        prices,
        costLaunches: 1,
      })
    : undefined;
  const tree = new PrefixTree({
    pages: world.pages.length,
    pageTokens: PAGE_TOKENS,
    isEnabled: true,
    tiers: { mover: world, prices, policy: createTierPolicy(name, prices) },
    window,
    snapshots,
  });
  if (sides.length > 0) {
    world.queue = () => ({ spillNs: 0, restoreNs: draw(4) === 0 ? 100 : 0, diskNs: 0 });
  }
  const open: Computing[] = [];
  const nodes = new Map<string, PageNode>();
  let nowNs = 0;

  const end = (at: number) => tree.release(open.splice(at, 1)[0]!.one);
  const isThere = ({ one, computed, keys }: Computing) => {
    const pages = Math.floor(computed / PAGE_TOKENS);
    for (let index = 0; index < pages; index++) {
      expect(world.pages[one.pages[index]!]).toBe(keys[index]);
    }
    for (let index = Math.max(0, pages - WINDOW_PAGES); hasWindow && index < pages; index++) {
      expect(index).toBeGreaterThanOrEqual(one.window.first);
      expect(world.device.window[one.window.pages[index]!]).toBe(keys[index]);
    }
  };
  /** It goes on from the state after all that it has claimed. */
  const begin = (sequence: Computing) => {
    const place = tree.continueFrom(sequence.one);
    const pages = sequence.computed / PAGE_TOKENS;
    if (hasState && pages > 0) {
      expect(world.device.state[place]).toBe(sequence.keys[pages - 1]);
      sequence.state = sequence.computed;
    }
  };

  const arrive = () => {
    const length = 2 + draw(26);
    const variant = draw(3);
    const tokens = range(length).map((at) => (at < 8 ? variant : at));
    const one = sequenceOf(tokens, draw(2) === 0 ? 'a' : 'b');
    one.isDistrustful = draw(10) === 0;
    const match = tree.match(one);
    const needed = Math.ceil(length / PAGE_TOKENS) - match.onDevice + match.fromCache;
    if (needed > tree.available || window?.fits(one) === false) return;
    const computed = tree.claim(one, match, draw(2)) * PAGE_TOKENS;
    one.pages.push(...tree.take(Math.ceil(length / PAGE_TOKENS) - one.pages.length));
    const sequence = { one, computed, state: 0, keys: keysOf(one) };
    isThere(sequence);
    if (one.awaited === null) begin(sequence);
    open.push(sequence);
  };
  /** Computes some of what it may: the content of its own pages is written. */
  const computeSome = (sequence: Computing) => {
    const { one } = sequence;
    const { awaited } = one;
    const may = awaited === null ? one.length : awaited.first * PAGE_TOKENS;
    let next = Math.min(may, sequence.computed + 1 + draw(12));
    if (hasState && next < one.length) {
      next = Math.min(next, tree.borderOf(one, sequence.computed));
      next = Math.max(sequence.computed, next - (next % PAGE_TOKENS));
    }
    window?.slide(one, sequence.computed);
    window?.extend(one, next);
    tree.publish(one, next);
    for (
      let index = Math.floor(sequence.computed / PAGE_TOKENS);
      index < next / PAGE_TOKENS;
      index++
    ) {
      const page = one.pages[index]!;
      expect(open.some((other) => other !== sequence && isOwn(other, page))).toBe(false);
      world.pages[page] = sequence.keys[index];
      if (hasWindow) world.device.window[one.window.pages[index]!] = sequence.keys[index];
    }
    if (next > sequence.computed) {
      expect(sequence.state).toBe(hasState ? sequence.computed : 0);
      if (hasState) sequence.state = next;
      const place = tree.takeSnapshot(one, next);
      if (place >= 0) world.device.state[place] = sequence.keys[next / PAGE_TOKENS - 1];
      tree.launch();
    }
    sequence.computed = Math.max(sequence.computed, next);
    isThere(sequence);
    window?.slide(one, sequence.computed);
    if (awaited === null || awaited.arrivals.size > 0 || sequence.computed < may) return;
    sequence.computed = awaited.end * PAGE_TOKENS;
    isThere(sequence);
    begin(sequence);
    tree.publish(one, sequence.computed);
    isThere(sequence);
  };
  const decideAgain = ({ one, computed }: Computing) => {
    if (one.awaited === null || computed < one.awaited.first * PAGE_TOKENS) return;
    tree.reconsider(one, draw(2));
  };
  world.dueNs = () => draw(60);
  /** Pages from the first node that something comes for to the last. */
  const stretchOf = ({ moves }: RestoreRequest): number[] => {
    const own = moves.map(({ key }) => nodes.get(key)!).sort((a, b) => a.index - b.index);
    const pages: number[] = [];
    for (let each = own.at(-1)!; ; each = each.parent!) {
      pages.push(each.at[DEVICE]!);
      if (each === own[0]) return pages;
    }
  };
  const isOwn = ({ one }: { one: PagedSequence }, page: number) =>
    one.pages.some((each, index) => each === page && one.nodes[index] === undefined);

  for (let operation = 0; operation < operations; operation++) {
    nowNs += draw(5) * 0.3e9;
    tree.advance(nowNs);
    const kind = draw(11);
    if (kind === 10 && open.length > 0) decideAgain(open[draw(open.length)]!);
    else if (kind < 3) arrive();
    else if (kind < 7 && open.length > 0) computeSome(open[draw(open.length)]!);
    else if (kind < 8 && open.length > 0) end(draw(open.length));
    else if (kind < 9) world.endRestore();
    const failed = tree.settle();
    for (let at = open.length - 1; at >= 0; at--) if (failed.has(open[at]!.one)) end(at);
    if (draw(500) === 0) tree.forgetDevice();
    if (draw(4) === 0) tree.evictAhead();
    for (const { one } of open) for (const node of one.nodes) nodes.set(node.key, node);
    const coming = [...world.restores.values()].flatMap(({ moves }) => moves);
    const placesOf = (part: KvPart) =>
      coming.filter((move) => move.part === part).map(({ page }) => page);
    const held = new Set([
      ...open.flatMap(({ one }) => one.pages),
      ...open.flatMap(({ one }) => one.nodes.map(({ at }) => at[0]!)),
      ...placesOf('context'),
      // What comes keeps its nodes, those between them, and with these their pages.
      ...[...world.restores.values()].flatMap(stretchOf),
    ]);
    held.delete(-1);
    expect(tree.held).toBe(held.size);
    const inWindows = new Set([
      ...open.flatMap(({ one }) => one.window.pages.slice(one.window.first)),
      ...placesOf('window'),
    ]);
    expect(window?.held ?? 0).toBe(inWindows.size);
    const states = placesOf('state');
    expect(new Set(states).size).toBe(states.length);
    expect(snapshots?.held ?? 0).toBeLessThanOrEqual(snapshots?.places ?? 0);
  }
  while (open.length > 0) end(0);
  expect([tree.held, tree.isRestoring, world.restores.size]).toEqual([0, false, 0]);
  expect(window?.held ?? 0).toBe(0);
  tree.settle();
  const { total, parts } = tree.accounts;
  const inSlots = (part: KvPart) =>
    (['host', 'disk'] as const).map((store) => world.below[store][part].filter(Boolean).length);
  expect(total.resident.slice(1)).toEqual(inSlots('context'));
  for (const side of sides) expect(parts[side].resident).toEqual(inSlots(side));
  return tree.accounts;
}
