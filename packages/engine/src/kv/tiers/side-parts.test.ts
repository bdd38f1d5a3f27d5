import { describe, expect, test } from 'vitest';
import { pageKey, rootKey } from '../page-key.ts';
import { NOWHERE, PageNode } from '../page-node.ts';
import type { PagedSequence } from '../paged-sequence.ts';
import { PrefixTree } from '../prefix-tree.ts';
import { SnapshotPool } from '../snapshot-pool.ts';
import {
  type Faults,
  PAGE_TOKENS,
  PageWorld,
  type PartPlaces,
  sequenceOf,
} from '../testing/page-world.ts';
import { WindowPool } from '../window-pool.ts';
import { TierAccounts } from './accounts.ts';
import type { KvPart } from './movement.ts';
import { createTierPolicy, type TierPolicyName } from './policies.ts';
import type { KvPrices } from './prices.ts';
import { StoredParts } from './stored-parts.ts';

/** Two pages are looked back at, and three are computed at once: six are the least. */
const SIZES = {
  pageTokens: PAGE_TOKENS,
  windowTokens: 2 * PAGE_TOKENS,
  aheadTokens: 0,
  launchTokens: 3 * PAGE_TOKENS,
};

/** Pages that cost 10 to compute and 1 to move either way, as all else does. */
const PRICES: KvPrices = {
  recomputeNs: () => 10,
  launchNs: () => 0,
  writeNs: () => 1,
  readNs: () => 1,
};

interface Setting {
  readonly pages?: number;
  readonly host?: number;
  readonly disk?: number;
  readonly window?: PartPlaces | undefined;
  readonly state?: PartPlaces | undefined;
  readonly policy?: TierPolicyName;
  readonly prices?: KvPrices;
  readonly faults?: Faults;
  readonly launchTokens?: number;
}

/** A device with little room for windows and states, whose contents are keys. */
class Machine {
  readonly world: PageWorld;
  readonly tree: PrefixTree;
  readonly window: WindowPool | undefined;
  readonly snapshots: SnapshotPool | undefined;
  readonly #launchTokens: number;
  #others = 100_000;

  constructor(setting: Setting) {
    const { pages = 64, host = 64, disk = 0, faults, window, state } = setting;
    const { prices = PRICES, policy = 'lru' } = setting;
    const pageTokens = PAGE_TOKENS;
    this.#launchTokens = setting.launchTokens ?? SIZES.launchTokens;
    const sides = { ...(window && { window }), ...(state && { state }) };
    this.world = new PageWorld(pages, host, disk, faults, sides);
    this.window = window && new WindowPool(window.device, SIZES);
    const places = state?.device ?? 0;
    this.snapshots = state && new SnapshotPool({ places, pageTokens, prices, costLaunches: 1 });
    this.tree = new PrefixTree({
      pages,
      pageTokens,
      isEnabled: true,
      tiers: { mover: this.world, prices, policy: createTierPolicy(policy, prices) },
      window: this.window,
      snapshots: this.snapshots,
    });
  }

  /** What a new request finds, and its sequence. */
  begin(tokens: readonly number[], others = Number.POSITIVE_INFINITY, tenant = 't') {
    const one = sequenceOf(tokens, tenant);
    const match = this.tree.match(one);
    const computed = this.tree.claim(one, match, others) * PAGE_TOKENS;
    return { one, match, computed };
  }

  /** Goes on with what was claimed, all of which is there, and computes the rest. */
  goOn(one: PagedSequence): void {
    const { tree, world, window, snapshots } = this;
    const pages = one.nodes.length;
    const place = tree.continueFrom(one);
    if (snapshots !== undefined && pages > 0) {
      expect(world.device.state[place]).toBe(one.nodes.at(-1)!.key);
    }
    if (window !== undefined) {
      for (const { index, key } of window.seenFrom(one.nodes)) {
        expect(world.device.window[one.window.pages[index]!]).toBe(key);
      }
    }
    one.pages.push(...tree.take(Math.ceil(one.length / PAGE_TOKENS) - one.pages.length));
    for (let computed = pages * PAGE_TOKENS; computed < one.length; ) {
      window?.slide(one, computed);
      const most = Math.min(one.length, computed + this.#launchTokens);
      const next = Math.min(most, tree.borderOf(one, computed));
      window?.extend(one, next);
      tree.publish(one, next);
      for (let index = computed / PAGE_TOKENS; index < one.nodes.length; index++) {
        const { key } = one.nodes[index]!;
        world.pages[one.pages[index]!] = key;
        if (window !== undefined) world.device.window[one.window.pages[index]!] = key;
      }
      const kept = tree.takeSnapshot(one, next);
      if (kept !== NOWHERE) world.device.state[kept] = one.nodes.at(-1)!.key;
      tree.launch();
      computed = next;
    }
    window?.slide(one, one.length);
  }

  /** A request from its beginning to its end. */
  serve(tokens: readonly number[], tenant = 't'): number {
    const { one, match } = this.begin(tokens, Number.POSITIVE_INFINITY, tenant);
    this.arrive();
    this.goOn(one);
    this.tree.release(one);
    return match.pages;
  }

  arrive() {
    this.world.endRestores();
    return this.tree.settle();
  }

  /** The same, but nothing that is asked for arrives. */
  serveWithout(tokens: readonly number[]): void {
    const { one } = this.begin(tokens);
    this.goOn(one);
    this.tree.release(one);
  }

  /** Leading pages of these tokens, and one more, that can be gone on from. */
  match(tokens: readonly number[], isDistrustful = false): number {
    return this.tree.match({ ...sequenceOf([...tokens, -1]), isDistrustful }).pages;
  }

  /** Other prompts come by, and need all places of windows and states. */
  flood(times = 3): void {
    for (let left = times; left > 0; left--) {
      this.#others += 1000;
      this.serve(text(this.#others), 'others');
    }
  }

  /** What host memory has of a prompt beside its pages. */
  inHost(from: number, pages = 6, parts: readonly KvPart[] = ['window', 'state']): string[] {
    const found: string[] = [];
    let key = rootKey('t');
    const tokens = Uint32Array.from(text(from, pages));
    for (let index = 0; index < pages; index++) {
      key = pageKey(key, tokens.subarray(index * PAGE_TOKENS, (index + 1) * PAGE_TOKENS));
      for (const part of parts) {
        if (this.world.below.host[part].includes(key)) found.push(`${part} ${index}`);
      }
    }
    return found;
  }

  get parts() {
    return this.tree.accounts.parts;
  }
}

/** Six pages, and a token behind them. */
const text = (from: number, pages = 6) =>
  Array.from({ length: pages * PAGE_TOKENS + 1 }, (_, i) => from + i);
const prefix = (from: number, pages: number) => text(from, pages).slice(0, -1);

const ROOMY = { device: 30, host: 16, disk: 0 };
/** Nothing of an earlier request stays in the pool. */
const TIGHT = { device: 6, host: 16, disk: 0 };
const FEW = { device: 1, host: 8, disk: 0 };
const never: Faults = {
  refuses: () => false,
  losesSpill: () => false,
  failsRestore: () => false,
};

describe('a part that the device needs the place of', () => {
  test('comes to host memory where a prompt ended, and not where it only passed', () => {
    const machine = new Machine({ window: TIGHT });
    machine.serve(text(0));
    machine.flood();
    expect(machine.inHost(0)).toEqual(['window 4', 'window 5']);
    expect(machine.parts.window.avoided).toBeGreaterThan(0);
    expect([6, 5, 4].map((pages) => machine.match(prefix(0, pages)))).toEqual([6, 0, 0]);
    // On the device alone there is none of it.
    expect(machine.match(prefix(0, 6), true)).toBe(0);
  });

  test('comes there where a prompt of whole pages ended, which needs its last page again', () => {
    const machine = new Machine({ window: TIGHT });
    machine.serve(prefix(0, 6));
    machine.flood();
    expect(machine.inHost(0)).toEqual(['window 3', 'window 4', 'window 5']);
    expect(machine.serve(prefix(0, 6))).toBe(5);
  });

  test('is what pages are written for: none are that lead nowhere', () => {
    const served = (host: number) => {
      // Its window gives way first, to the next prompt, and its pages to later ones.
      const machine = new Machine({ pages: 24, window: { device: 6, host, disk: 0 } });
      machine.serve(text(0));
      machine.flood(5);
      return { machine, pages: machine.inHost(0, 6, ['context']).length };
    };
    const { machine, pages } = served(16);
    expect([pages, machine.match(prefix(0, 6))]).toEqual([6, 6]);
    const without = served(0);
    expect(without.pages).toBe(0);
    expect(without.machine.tree.accounts.total.avoided).toBeGreaterThanOrEqual(6);
  });

  test('does not come where many went on alike, and were computed again', () => {
    let refuses = true;
    const faults = { ...never, refuses: () => refuses };
    const machine = new Machine({ pages: 200, window: TIGHT, faults });
    const served = () => {
      expect(machine.serve(text(0, 10))).toBe(0);
      machine.flood();
      return machine.inHost(0, 10);
    };
    expect([served(), served(), served()]).toEqual([[], [], []]);
    refuses = false;
    // A prompt of whole pages that comes again goes on from the page before its last.
    expect(served()).toEqual(['window 7', 'window 8', 'window 9']);
  });

  test('comes there where several parted', () => {
    const machine = new Machine({ pages: 400, window: TIGHT });
    for (const from of [5000, 6000, 7000, 8000]) {
      machine.serve([...prefix(0, 6), ...text(from, 4)]);
      machine.flood();
    }
    expect(machine.inHost(0, 6)).toEqual(['window 3', 'window 4', 'window 5']);
    expect(machine.match([...prefix(0, 6), ...text(9000, 1)])).toBe(6);
  });

  test('comes there where the policy would have its page', () => {
    const machine = new Machine({ window: TIGHT, policy: 'second-touch' });
    machine.serve(text(0));
    machine.flood();
    expect([machine.inHost(0), machine.parts.window.spilled]).toEqual([[], 0]);
    // Its pages are still on the device, and another request computes them a second time.
    machine.serve(text(0));
    machine.flood();
    expect(machine.inHost(0)).toEqual(['window 4', 'window 5']);
    expect(machine.match(prefix(0, 6))).toBe(6);
  });

  test('is written once, whenever it comes and goes', () => {
    const machine = new Machine({ window: TIGHT, state: FEW });
    const { world } = machine;
    const spill = world.spill.bind(world);
    const written: string[] = [];
    world.spill = (span) => {
      written.push(...span.moves.map(({ part, key }) => `${part} ${key}`));
      return spill(span);
    };
    for (let times = 0; times < 4; times++) {
      machine.serve(text(0));
      machine.flood();
    }
    expect(machine.parts).toMatchObject({ window: { restored: 6 }, state: { restored: 3 } });
    expect(new Set(written).size).toBe(written.length);
  });

  test('is a state that comes there under lru, whatever it costs, and else if it pays', () => {
    // Of six pages it saves 60, every other time; both ways take as much as is said.
    const stored = (policy: TierPolicyName, bothWaysNs: number) => {
      const stateNs = (part?: string) => (part === 'state' ? bothWaysNs : 1);
      const writeNs: KvPrices['writeNs'] = (_, part) => stateNs(part);
      const readNs: KvPrices['readNs'] = (_, part) => stateNs(part);
      const prices = { ...PRICES, writeNs, readNs };
      const machine = new Machine({ state: FEW, policy, prices, launchTokens: 24 });
      machine.serve(text(0));
      machine.serve(text(1000));
      return [machine.parts.state.spilled, machine.parts.state.avoided];
    };
    expect(stored('lru', 1000)).toEqual([1, 0]);
    expect(stored('write-through', 1000)).toEqual([1, 0]);
    // 60 / 2 > write + read / 2.
    expect(stored('priced', 19.9)).toEqual([1, 0]);
    expect(stored('priced', 20.1)).toEqual([0, 1]);
  });

  test('is lost where staging is short, or host memory fails', () => {
    const served = (faults: Faults) => {
      const machine = new Machine({ window: TIGHT, state: FEW, faults });
      machine.serve(text(0));
      machine.flood();
      machine.tree.settle();
      expect(machine.match(prefix(0, 6))).toBe(0);
      for (const { resident } of Object.values(machine.parts)) expect(resident).toEqual([0, 0]);
      const { window, state } = machine.parts;
      return [window, state].map(({ spilled, refused, lost }) => [
        spilled > 0,
        refused > 0,
        lost === spilled,
      ]);
    };
    const refused = [false, true, true];
    expect(served({ ...never, refuses: () => true })).toEqual([refused, refused]);
    const lost = [true, false, true];
    expect(served({ ...never, losesSpill: () => true })).toEqual([lost, lost]);
  });

  test('takes the slot of what was used longest ago, which is lost', () => {
    const machine = new Machine({ window: TIGHT, state: { ...FEW, host: 2 }, launchTokens: 24 });
    const matches = () => [0, 1000, 2000].map((from) => machine.match(prefix(from, 6)));
    for (const from of [0, 1000, 2000]) machine.serve(text(from));
    expect(matches()).toEqual([6, 6, 6]);
    machine.serve(text(0));
    machine.serve(text(3000));
    expect(matches()).toEqual([6, 0, 6]);
  });

  describe('whose host memory has no slot left for another', () => {
    const windows = { ...TIGHT, host: 4, disk: 4 };
    const states = { ...FEW, host: 2, disk: 1 };
    const churned = (setting: Setting) => {
      const machine = new Machine({ disk: 64, launchTokens: 24, ...setting });
      for (const from of [0, 1000, 2000]) machine.serve(text(from));
      machine.serve(text(0));
      machine.serve(text(3000));
      return machine;
    };

    test('goes on to the disk, and comes back from there', () => {
      const machine = churned({ window: windows, state: states });
      expect(machine.match(prefix(1000, 6))).toBe(6);
      const { window, state } = machine.parts;
      expect([window.resident, state.resident]).toEqual([
        [4, 2],
        [2, 1],
      ]);
      expect([window.demoted, state.demoted]).toEqual([2, 1]);
      expect(machine.serve(text(1000))).toBe(6);
    });

    test('is lost where the disk takes longer than it saves', () => {
      const prices: KvPrices = {
        ...PRICES,
        writeNs: (tier) => (tier === 'disk' ? 1e9 : 0),
      };
      const served = (policy: TierPolicyName, prices: KvPrices) => {
        const machine = churned({ state: states, policy, prices });
        return machine.parts.state.demoted;
      };
      expect(served('priced', prices)).toBe(0);
      expect(served('priced', { ...prices, writeNs: () => 0 })).toBeGreaterThan(0);
      expect(served('lru', prices)).toBeGreaterThan(0);
    });
  });

  test('does not take the slot of what the same request waits for', () => {
    const { device, host } = { device: 3, host: 2 };
    const world = new PageWorld(8, 8, 0, never, { window: { device, host, disk: 0 } });
    const pool = new WindowPool(6, SIZES);
    const accounts = new TierAccounts();
    const stored = new StoredParts('window', pool, world, accounts.parts.window, () => false);
    const nodes = [0, 1, 2].map((page) => {
      const node = new PageNode(`${page}`, 't', null);
      node.window = { page, holders: 0, arrival: null, link: null };
      world.device.window[page] = node.key;
      return node;
    });
    const [a, b, c] = nodes as [PageNode, PageNode, PageNode];
    expect([a, b].map((node) => stored.spill(node, () => true))).toEqual([true, true]);
    stored.pin([a, b]);
    expect(stored.spill(c, () => true)).toBe(false);
    expect([a, b, c].map((node) => stored.has(node))).toEqual([true, true, false]);
    stored.pin([]);
    expect(stored.spill(c, () => true)).toBe(true);
    expect([a, b, c].map((node) => stored.has(node))).toEqual([false, true, true]);
    expect(accounts.parts.window).toMatchObject({ spilled: 3, avoided: 1, resident: [2, 0] });
  });

  test('stays while its page is below the device, and goes with the last of that', () => {
    const setting = { pages: 10, window: ROOMY, state: { ...FEW, device: 8 } };
    const machine = new Machine(setting);
    machine.serve(text(0));
    machine.flood();
    expect(machine.match(prefix(0, 6), true)).toBe(0);
    const { one, match } = machine.begin(text(0));
    // Its pages come back, and go on from what never left.
    expect(match).toMatchObject({ pages: 6, onDevice: 0 });
    const parts = [...machine.world.restores.values()].flatMap(({ moves }) => moves);
    expect(new Set(parts.map(({ part }) => part))).toEqual(new Set(['context']));
    machine.arrive();
    machine.goOn(one);
    machine.tree.release(one);
    const small = new Machine({ ...setting, host: 0 });
    small.serve(text(0));
    small.flood();
    // Of the last prompt two, and one of what is left of the prompt before it.
    expect([small.match(prefix(0, 6)), small.snapshots!.held]).toEqual([0, 2 + 1]);
  });
});

describe('a page that goes on to disk', () => {
  const demoted = (disk: number) => {
    const window = { ...TIGHT, host: 40, disk };
    const state = { ...FEW, host: 40, disk };
    const machine = new Machine({ pages: 10, host: 10, disk: 40, window, state });
    machine.serve(text(0));
    machine.flood();
    expect(machine.tree.accounts.total.demoted).toBeGreaterThan(0);
    return machine;
  };

  test('takes along what is beside it', () => {
    const machine = demoted(8);
    expect(machine.inHost(0)).toEqual([]);
    expect(machine.serve(text(0))).toBe(6);
    expect(machine.parts).toMatchObject({ window: { restored: 2 }, state: { restored: 1 } });
  });

  test('leaves it in host memory where the disk has no slots for it', () => {
    const machine = demoted(0);
    expect(machine.inHost(0)).toContain('window 5');
    expect(machine.serve(text(0))).toBe(6);
    expect(machine.parts).toMatchObject({ window: { restored: 2 }, state: { restored: 1 } });
  });
});

/** A machine whose first prompt is in host memory, with all that is beside its pages. */
function stored(setting: Setting = {}) {
  const machine = new Machine({ pages: 10, window: TIGHT, state: FEW, ...setting });
  machine.serve(text(0));
  machine.flood();
  return machine;
}

describe('a prefix whose parts are in stores', () => {
  test('is waited for as a whole, and nothing is computed before', () => {
    const machine = stored();
    const { one, computed } = machine.begin(text(0));
    expect(computed).toBe(0);
    expect(one.awaited).toMatchObject({ first: 0, end: 6, state: one.nodes[5] });
    const [restore, ...more] = [...machine.world.restores.values()];
    expect(more).toEqual([]);
    const moved = restore!.moves.map(({ part, key }) => `${part} ${one.pageKeys.indexOf(key)}`);
    expect(moved.filter((move) => !move.startsWith('context'))).toEqual([
      'window 4',
      'window 5',
      'state 5',
    ]);
    expect(machine.window!.held).toBe(2);
    expect(machine.arrive().size).toBe(0);
    expect(one.awaited!.arrivals.size).toBe(0);
    machine.goOn(one);
    machine.tree.release(one);
    expect([machine.window!.held, machine.tree.held]).toEqual([0, 0]);
  });

  test('is not there before the last of it is, though all its pages are', () => {
    const machine = stored({ pages: 64 });
    const { one, match, computed } = machine.begin(text(0));
    expect(match).toMatchObject({ pages: 6, onDevice: 6 });
    expect([computed, one.awaited!.first, one.awaited!.end]).toEqual([0, 0, 6]);
    expect(machine.world.restores.size).toBe(1);
  });

  test('is computed where that is sooner, but for what the device has by itself', () => {
    const asked = (pageNs: number, queueNs: number) => {
      const prices = { ...PRICES, recomputeNs: () => pageNs };
      const machine = stored({ pages: 64, state: { ...FEW, device: 2 }, prices });
      // All pages are on the device, and a window that is passed is not.
      machine.world.queue = () => ({ spillNs: 0, restoreNs: queueNs, diskNs: 0 });
      const { one } = machine.begin(text(0), 0);
      const { total } = machine.tree.accounts;
      const why = Object.entries(total.recomputed).filter(([, pages]) => pages > 0);
      return [why, one.nodes.length, machine.world.restores.size];
    };
    // Six pages, or two parts of a window that take 1 each.
    expect(asked(10, 0)).toEqual([[], 6, 1]);
    expect(asked(0.3, 0)).toEqual([[['sooner', 6]], 0, 0]);
    expect(asked(10, 100)).toEqual([[['lane_busy', 6]], 0, 0]);
  });

  test('is brought after all where its pages cannot be there twice', () => {
    const asked = (pages: number) => {
      const prices = { ...PRICES, recomputeNs: () => 0.1 };
      const window = { ...TIGHT, device: 12, host: 100 };
      const machine = new Machine({ pages, window, prices });
      machine.serve(text(0));
      machine.flood(9);
      expect(machine.inHost(0)).toEqual(['window 4', 'window 5']);
      // Another goes on from the same pages, and holds them, while their windows are passed.
      const { one: other } = machine.begin([...prefix(0, 6), ...text(5000, 14)]);
      machine.arrive();
      machine.goOn(other);
      machine.flood(9);
      machine.goOn(machine.begin(text(6000, 1)).one);
      const { one, match } = machine.begin(text(0), 0);
      return [match.pages, one.nodes.length];
    };
    expect(asked(60)).toEqual([6, 0]);
    expect(asked(29)).toEqual([6, 6]);
  });

  test('is not the distrustful’s, and what is not taken counts as failed', () => {
    const machine = stored({ pages: 64 });
    const one = { ...sequenceOf(text(0)), isDistrustful: true };
    const match = machine.tree.match(one);
    machine.tree.claim(one, match);
    expect([match.pages, one.awaited]).toEqual([0, null]);
    expect(machine.tree.accounts.total.recomputed.failed).toBe(6);
    machine.goOn(one);
    machine.tree.release(one);
    expect(machine.match(prefix(0, 6), true)).toBe(6);
  });

  test('is of its tenant alone', () => {
    const machine = stored();
    expect(machine.serve(text(0), 'another')).toBe(0);
    expect(machine.parts).toMatchObject({ window: { restored: 0 }, state: { restored: 0 } });
  });

  test('outlasts that the device forgets everything', () => {
    const machine = stored();
    machine.serve(text(1000));
    // It is on the device again, besides.
    machine.serve(text(0));
    machine.tree.forgetDevice();
    for (const contents of Object.values(machine.world.device)) contents.fill(undefined);
    expect([machine.window!.held, machine.snapshots!.held]).toEqual([0, 0]);
    // What was on the device alone is gone.
    expect(machine.match(prefix(0, 6), true)).toBe(0);
    expect(machine.match(prefix(0, 6))).toBe(6);
    expect(machine.serve(text(0))).toBe(6);
    expect(machine.parts).toMatchObject({ window: { restored: 4 }, state: { restored: 2 } });
  });
});

describe('a restore of several parts', () => {
  test('that fails leaves nothing behind, and its request starts over', () => {
    let fails = true;
    const machine = stored({ faults: { ...never, failsRestore: () => fails } });
    const { one } = machine.begin(text(0));
    expect([...machine.arrive()]).toEqual([one]);
    machine.tree.release(one);
    const { tree, window } = machine;
    expect([tree.held, window!.held, tree.isRestoring]).toEqual([0, 0, false]);
    expect([machine.match(prefix(0, 6)), machine.match(prefix(0, 6), true)]).toEqual([6, 0]);
    fails = false;
    expect(machine.serve(text(0))).toBe(6);
    expect(machine.parts).toMatchObject({ window: { restored: 2 }, state: { restored: 1 } });
  });

  test('that is late has failed, as well', () => {
    const machine = stored();
    const { one } = machine.begin(text(0));
    machine.tree.advance(machine.tree.lateNs!);
    expect([...machine.tree.settle()]).toEqual([one]);
    machine.tree.release(one);
    expect([machine.tree.held, machine.window!.held]).toEqual([0, 0]);
    expect(machine.serve(text(0))).toBe(6);
  });

  test('that nobody waits for any more is cancelled', () => {
    const machine = stored();
    const { one } = machine.begin(text(0));
    machine.tree.release(one);
    const { tree, world, window, snapshots } = machine;
    expect([world.restores.size, tree.held, window!.held, snapshots!.held]).toEqual([0, 0, 0, 0]);
    expect(machine.serve(text(0))).toBe(6);
  });

  test('from two stores, of which one fails, gives what has come to the next', () => {
    let fails = false;
    const machine = stored({
      host: 8,
      disk: 40,
      state: { ...FEW, disk: 40 },
      faults: { ...never, failsRestore: () => fails },
    });
    machine.serve(text(2000, 8));
    // Some of it was demoted: pages and the state, while its window stayed.
    const { one, match } = machine.begin(text(0));
    expect(match.pages).toBe(6);
    const stores = [...machine.world.restores.values()].map(({ from }) => from);
    expect(stores).toEqual(['host', 'disk']);
    machine.world.endRestore();
    fails = true;
    machine.world.endRestore();
    expect([...machine.tree.settle()]).toEqual([one]);
    machine.tree.release(one);
    expect([machine.tree.held, machine.window!.held]).toEqual([0, 0]);
    fails = false;
    expect(machine.serve(text(0))).toBe(6);
  });

  test('that has lost a part names it, and the prefix is not gone on from any more', () => {
    const machine = stored();
    const { window } = machine.world.below.host;
    window[window.findIndex((key) => key !== undefined)] = undefined;
    const { one } = machine.begin(text(0));
    expect([...machine.arrive()]).toEqual([one]);
    machine.tree.release(one);
    expect(machine.parts.window.lost).toBe(1);
    expect(machine.match(prefix(0, 6))).toBe(0);
    expect(machine.serve(text(0))).toBe(0);
    expect(machine.match(prefix(0, 6), true)).toBe(6);
  });

  test('keeps the room of a request that left while another waits for it', () => {
    const window = { ...TIGHT, device: 10 };
    const machine = new Machine({ pages: 200, window: { ...window, host: 100 } });
    machine.serve(text(0));
    machine.flood(9);
    // The next conversation ends a page earlier.
    machine.serve([...prefix(0, 5), -1]);
    machine.flood(9);
    expect(machine.inHost(0)).toEqual(['window 3', 'window 4', 'window 5']);
    // The second goes on a page before the first, whose last window it waits for all the same.
    const first = machine.begin(text(0)).one;
    const second = machine.begin([...prefix(0, 5), -1]).one;
    expect([first.nodes.length, second.nodes.length]).toEqual([6, 5]);
    expect([machine.world.restores.size, machine.window!.held]).toEqual([2, 3]);
    const waiting = { ...sequenceOf(text(7000, 30)) };
    const promised = first.window.reserved + second.window.reserved;
    expect(machine.window!.reservedFraction).toBe(promised / 7);
    machine.tree.release(first);
    // Two pages are the second's, one of which comes for the first: one is nobody's.
    expect([machine.world.restores.size, machine.window!.held]).toEqual([2, 3]);
    expect(machine.window!.reservedFraction).toBe((second.window.reserved + 1) / 7);
    expect(machine.window!.fits(waiting)).toBe(true);
    machine.arrive();
    expect(machine.window!.reservedFraction).toBe(second.window.reserved / 7);
    machine.goOn(second);
    machine.tree.release(second);
    expect([machine.window!.held, machine.window!.reservedFraction]).toEqual([0, 0]);
  });
});

describe('the place of a state that comes', () => {
  test('is no other’s, before it has come and until its request goes on from it', () => {
    const machine = stored({ pages: 40, window: undefined });
    const { one } = machine.begin(text(0));
    const place = one.nodes[5]!.snapshot;
    expect(place).not.toBe(NOWHERE);
    const isKept = () => {
      machine.serveWithout(text(7000));
      // The only place is taken: no state is kept, and no other comes.
      expect(machine.match(prefix(7000, 6))).toBe(0);
      return one.nodes[5]!.snapshot === place;
    };
    expect(isKept()).toBe(true);
    machine.arrive();
    expect(isKept()).toBe(true);
    machine.goOn(one);
    machine.tree.release(one);
    machine.serve(text(7000));
    expect(machine.match(prefix(7000, 6))).toBe(6);
    expect(machine.match(prefix(0, 6))).toBe(6);
  });

  test('is kept for it when its request left, while another waits for what comes with it', () => {
    const machine = stored({ window: undefined, state: { ...FEW, device: 2, host: 20 } });
    // Of the same prompt, whose pages come: one goes on from its end, one from its middle.
    const [end, middle] = [text(0), [...prefix(0, 3), -1]].map((tokens) => machine.begin(tokens));
    expect([end!.match.pages, middle!.match.pages]).toEqual([6, 3]);
    expect(machine.world.restores.size).toBe(2);
    machine.tree.release(end!.one);
    expect(machine.world.restores.size).toBe(2);
    expect(machine.snapshots!.hasRoom).toBe(false);
    machine.arrive();
    expect(machine.snapshots!.hasRoom).toBe(true);
    machine.goOn(middle!.one);
  });

  test('is not one that the launch reads that is being planned', () => {
    const machine = stored({ pages: 40 });
    machine.serve(text(1000));
    const ready = machine.begin(text(1000)).one;
    expect(ready.awaited).toBe(null);
    machine.tree.continueFrom(ready);
    expect(machine.match(prefix(0, 6))).toBe(0);
    machine.tree.launch();
    expect(machine.match(prefix(0, 6))).toBe(6);
  });
});

test('a state that the launch writes that is being planned is not stored yet', () => {
  const machine = new Machine({ state: FEW, launchTokens: 24 });
  const [a, b, c] = [0, 1000, 2000].map((from) => machine.begin(text(from)).one) as [
    PagedSequence,
    PagedSequence,
    PagedSequence,
  ];
  for (const one of [a, b, c]) {
    one.pages.push(...machine.tree.take(7));
    machine.tree.publish(one, 24);
  }
  expect([a, b].map((one) => machine.tree.takeSnapshot(one, 24))).toEqual([0, 0]);
  expect(machine.parts.state).toMatchObject({ spilled: 0, avoided: 1 });
  machine.tree.launch();
  machine.world.device.state[0] = b.nodes[5]!.key;
  expect(machine.tree.takeSnapshot(c, 24)).toBe(0);
  expect(machine.parts.state).toMatchObject({ spilled: 1, avoided: 1 });
});
