import { hash32 } from '@bridgekeeper/device';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PrefixTree } from '../kv/prefix-tree.ts';
import { SnapshotPool } from '../kv/snapshot-pool.ts';
import type {
  Demotion,
  KvPart,
  Mover,
  MoveSpan,
  RestoreRequest,
  Settled,
  StoredPart,
  StoreName,
} from '../kv/tiers/movement.ts';
import { createTierPolicy, TIER_POLICY_NAMES } from '../kv/tiers/policies.ts';
import { WindowPool, windowPagesOfLaunch, windowPagesOfRow } from '../kv/window-pool.ts';
import type { StepPlan } from './plan.ts';
import { Scheduler } from './scheduler.ts';
import { LIMITS, sequence } from './testing/play.ts';
import { WordDevice } from './testing/word-device.ts';

const { pageTokens, maxBatchTokens: launchTokens } = LIMITS;

type Content = readonly (number | undefined)[];

/** How often a mover fails, of `most` times; 0: never. */
type Draw = (most: number) => number;

/**
 * Moves contents of a device as `Mover` promises, at the worst times that it leaves open: spills
 * read when moves are queued, before the launch that was planned with them; what is restored has no
 * meaning from then on until its end.
 */
class LateMover implements Mover {
  readonly parts = ['context', 'window', 'state'] as const;
  readonly pagesTogether = 2;
  readonly slots: Mover['slots'];
  readonly queue = () => ({ spillNs: 0, restoreNs: this.#draw(5) === 0 ? 1000 : 0, diskNs: 0 });
  readonly moved = { spilled: 0, restored: 0, failed: 0 };
  readonly #device: WordDevice;
  readonly #draw: Draw;
  readonly #stores: Record<StoreName, Map<string, Content>> = { host: new Map(), disk: new Map() };
  readonly #restores = new Map<number, { request: RestoreRequest; contents: (Content | null)[] }>();
  #asked: (() => void)[] = [];
  #settled: Settled[] = [];
  #ids = 0;

  constructor(device: WordDevice, slots: Mover['slots'], draw: Draw) {
    this.#device = device;
    this.slots = slots;
    this.#draw = draw;
  }

  get isIdle(): boolean {
    return this.#restores.size === 0;
  }

  #contentOf({ part, page }: { part: KvPart; page: number }): Content {
    return [...(this.#device.contents[part][page] ?? [])];
  }

  spill({ moves }: MoveSpan): number {
    const taken = this.#draw(8) === 0 ? moves.length >> 1 : moves.length;
    for (const move of moves.slice(0, taken)) {
      if (move.part !== 'context') this.moved.spilled += 1;
      this.#asked.push(() => this.#put('host', move, this.#contentOf(move)));
    }
    return taken;
  }

  demote(_tenant: string, demotions: readonly Demotion[]): void {
    for (const { part, hostSlot, diskSlot } of demotions) {
      this.#asked.push(() => {
        const content = this.#stores.host.get(idOf({ part, slot: hostSlot }));
        this.#put('disk', { part, slot: diskSlot }, content);
      });
    }
  }

  #put(store: StoreName, { part, slot }: StoredPart, content: Content | undefined): void {
    const id = idOf({ part, slot });
    if (content !== undefined && this.#draw(30) > 0) {
      this.#stores[store].set(id, content);
      return;
    }
    this.#stores[store].delete(id);
    const lost = [{ part, slot }];
    this.#settled.push({ kind: 'slots-lost', store, failure: 'no-memory', lost });
  }

  restore(request: RestoreRequest): number {
    const id = this.#ids++;
    const restore = { request, contents: [] as (Content | null)[] };
    this.#restores.set(id, restore);
    this.#asked.push(() => {
      const store = this.#stores[request.from];
      restore.contents = request.moves.map((move) => store.get(idOf(move)) ?? null);
      if (!this.#restores.has(id)) return;
      for (const { part, page } of request.moves) this.#device.contents[part][page] = [];
    });
    return id;
  }

  /** One that is under way comes to its end. */
  endOne(): void {
    const open = [...this.#restores].filter(([, { contents }]) => contents.length > 0);
    if (open.length === 0) return;
    const [id, { request, contents }] = open[this.#draw(open.length)]!;
    this.#restores.delete(id);
    if (contents.includes(null) || this.#draw(8) === 0) {
      this.moved.failed += 1;
      this.#settled.push({ kind: 'restore-failed', id, failure: 'lane-lost', lost: [] });
      return;
    }
    for (const [index, { part, page }] of request.moves.entries()) {
      if (part !== 'context') this.moved.restored += 1;
      this.#device.contents[part][page] = [...contents[index]!];
    }
    const done = { layers: 1, isComplete: true, laneNs: 0, bytes: 0 };
    this.#settled.push({ kind: 'restored', id, ...done });
  }

  cancel(id: number): void {
    this.#restores.delete(id);
    this.#settled = this.#settled.filter((event) => !('id' in event) || event.id !== id);
  }

  drop(store: StoreName, parts: readonly StoredPart[]): void {
    const names = new Set(parts.map(idOf));
    this.#settled = this.#settled.map((event) => {
      if (event.kind !== 'slots-lost' || event.store !== store) return event;
      return { ...event, lost: event.lost.filter((part) => !names.has(idOf(part))) };
    });
  }

  queueMoves(): void {
    for (const move of this.#asked.splice(0)) move();
  }

  settled(): readonly Settled[] {
    return this.#settled.splice(0);
  }

  dropAll(): void {}
  whenSettled = () => Promise.resolve();
  dueNs = () => 0;
}

const idOf = ({ part, slot }: StoredPart) => `${part} ${slot}`;

const request = fc.record({
  /** Of the same text for all, and then its own. */
  shared: fc.nat(30),
  own: fc.array(fc.nat(3), { minLength: 1, maxLength: 20 }),
  maxTokens: fc.integer({ min: 1, max: 20 }),
  tenant: fc.constantFrom('a', 'a', 'a', 'b'),
  cancelAt: fc.option(fc.nat(20), { freq: 5 }),
  comesAt: fc.nat(60),
});

const situation = fc.record({
  requests: fc.array(request, { minLength: 8, maxLength: 24 }),
  pages: fc.integer({ min: 24, max: 40 }),
  morePages: fc.nat(6),
  windowTokens: fc.option(fc.integer({ min: 1, max: 12 }), { freq: 3 }),
  states: fc.option(fc.integer({ min: 1, max: 4 }), { freq: 3 }),
  host: fc.integer({ min: 1, max: 60 }),
  disk: fc.constantFrom(0, 0, 30),
  policy: fc.constantFrom(...TIER_POLICY_NAMES),
  seed: fc.nat(2 ** 31 - 1),
});
type Situation = typeof situation extends fc.Arbitrary<infer Value> ? Value : never;

const PRICES = { recomputeNs: () => 10, launchNs: () => 1, writeNs: () => 1, readNs: () => 1 };

/** Runs all to their ends on a device that finds what is wrong. Says what moved. */
function play({ requests, pages, morePages, windowTokens, states, ...rest }: Situation) {
  let drawn = 0;
  const draw = (most: number) => (hash32(rest.seed, drawn++, 5) >>> 0) % most;
  const sizes = { pageTokens, windowTokens: windowTokens ?? 0, aheadTokens: 65, launchTokens };
  const least = windowPagesOfRow(sizes) + windowPagesOfLaunch(sizes);
  const window = windowTokens === null ? undefined : new WindowPool(least + morePages, sizes);
  const snapshots =
    states === null
      ? undefined
      : new SnapshotPool({ places: states, pageTokens, prices: PRICES, costLaunches: 1 });
  const device = new WordDevice(windowTokens, states !== null);
  const { host, disk } = rest;
  const slotsOf = (context: number) => ({ context, window: context >> 1, state: context >> 2 });
  const mover = new LateMover(device, { host: slotsOf(host), disk: slotsOf(disk) }, draw);
  const policy = createTierPolicy(rest.policy, PRICES);
  const tiers = { mover, prices: PRICES, policy };
  const tree = new PrefixTree({ pages, pageTokens, isEnabled: true, tiers, window, snapshots });
  const s = new Scheduler(LIMITS, tree);
  const sequences = requests.map(({ shared, own, maxTokens, tenant }) => {
    const text = Array.from({ length: shared }, (_, i) => hash32(2, i, 0) & 3);
    return sequence([...text, ...own], { maxTokens }, { tenant });
  });
  const finished = new Set<string>();
  const flights: { plan: StepPlan; results: ReturnType<WordDevice['run']> }[] = [];
  for (let turn = 0; finished.size < requests.length; turn++) {
    expect(turn).toBeLessThan(2000);
    for (const [i, each] of sequences.entries()) {
      const { comesAt, cancelAt } = requests[i]!;
      if (comesAt === turn) s.add(each);
      if (cancelAt === turn - comesAt) each.cancelled = true;
    }
    const nowNs = turn * 1e8;
    for (const event of s.retireCancelled(nowNs)) finished.add(event.id);
    const plan = s.plan(nowNs);
    mover.queueMoves();
    const isEmpty = plan.prefill.length + plan.decode.length === 0;
    if (!isEmpty) flights.push({ plan, results: device.run(plan) });
    if (draw(2) === 0 || isEmpty) mover.endOne();
    if (flights.length === 0 || (!isEmpty && flights.length < 2)) continue;
    const flight = flights.shift()!;
    const results = { rows: flight.results.rows, promptLogprobs: [] };
    for (const event of s.commit(flight.plan, results, nowNs)) {
      if (event.finish) finished.add(event.id);
    }
  }
  expect([tree.held, mover.isIdle, window?.held ?? 0, window?.reservedFraction ?? 0]).toEqual([
    0,
    true,
    0,
    0,
  ]);
  for (const each of sequences) {
    if (!each.cancelled) expect(each.generated).toBe(each.request.sampling.maxTokens);
  }
  return mover.moved;
}

describe('windows and states that go below the device and come back', () => {
  it('are what is computed behind, in the order of launches, over random traffic', () => {
    const seen = { spilled: 0, restored: 0, failed: 0 };
    const check = (drawn: Situation) => {
      const { spilled, restored, failed } = play(drawn);
      seen.spilled += spilled;
      seen.restored += restored;
      seen.failed += failed;
    };
    fc.assert(fc.property(situation, check), { numRuns: 200 });
    expect(Math.min(...Object.values(seen))).toBeGreaterThan(20);
  });
});
