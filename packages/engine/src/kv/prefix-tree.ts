import { invariant } from '@bridgekeeper/bridge';
import { Arrivals, isOnlyFor, type Restoring } from './arrivals.ts';
import { pageKey, rootKey } from './page-key.ts';
import {
  type Arrival,
  DEVICE,
  DISK,
  GHOST,
  HOST,
  NOWHERE,
  PageNode,
  type RecomputedFor,
  TIERS,
} from './page-node.ts';
import { NO_MATCH, type PagedSequence, type PrefixMatch } from './paged-sequence.ts';
import { Shelf } from './shelf.ts';
import type { SnapshotPool } from './snapshot-pool.ts';
import { STORES, TierAccounts } from './tiers/accounts.ts';
import type { Mover, Settled, StoredPart, StoreName } from './tiers/movement.ts';
import { lru } from './tiers/policies/lru.ts';
import type { TierPolicy } from './tiers/policy.ts';
import type { KvPrices } from './tiers/prices.ts';
import { type Side, SideParts, type SideStores } from './tiers/side-parts.ts';
import { computedFor, givenUpOf, reasonOf, type StoredRun, splitOf } from './tiers/split.ts';
import type { WindowPool } from './window-pool.ts';

export interface PrefixTreeOptions {
  /** Of the device. */
  readonly pages: number;
  readonly pageTokens: number;
  /** Off: nothing is found again. */
  readonly isEnabled: boolean;
  readonly tiers?: TierOptions | undefined;
  /** Of states that rows keep beside pages; absent: they keep none. */
  readonly snapshots?: SnapshotPool | undefined;
  /** Of layers that see a window; absent: their KV is in the pages of all others. */
  readonly window?: WindowPool | undefined;
}

/** What is below the device. */
export interface TierOptions {
  readonly policy: TierPolicy;
  readonly prices: KvPrices;
  readonly mover: Mover;
}

/** Of the device's pages, as far as they are kept free for what comes next. */
const AHEAD_SHARE = 1 / 16;
/** Nodes without content that are remembered, for each place of any tier, and at least. */
const GHOSTS_PER_PLACE = 2;
const GHOSTS_MIN = 65_536;

/** What is brought as one is asked for in so many parts at most, each of which can be given up. */
const PARTS_MAX = 4;
const NONE: ReadonlySet<PagedSequence> = new Set();

/**
 * The KV pages of a device and the stores below it, under one tree of prefixes. A page of the
 * device is free, or one sequence's own, or has the content of a node: a full page of some tenant's
 * prefix, found again by its key. A node's content may be in several tiers; its place in a tier can
 * be given up while no sequence holds the node.
 *
 * Holes cannot come about: what leaves its last tier takes along what continues it, so what leaves
 * is chosen from the tail. Sequences hold all nodes from the root on, so that whatever continues a
 * node that is not held is not held either.
 *
 * Where layers see a window, or rows keep a state, a prefix can be gone on from only after nodes
 * that have these as well. They are parts of their nodes with pools of their own, and are on the
 * device, or in stores (`StoredParts`), wherever the node's page is, as long as that is anywhere.
 *
 * Decides and accounts only: a mover has the bytes. Without tiers, evicted content is lost.
 */
export class PrefixTree {
  readonly accounts = new TierAccounts();
  /** null: rows keep nothing beside pages. */
  readonly snapshots: SnapshotPool | null;
  /** Of layers that see a window; null: they have none of their own. */
  readonly window: WindowPool | null;
  readonly #pageTokens: number;
  readonly #isEnabled: boolean;
  readonly #policy: TierPolicy;
  readonly #tiers: TierOptions | null;
  /** Of device, host and disk; then of nodes without content, which have no places. */
  readonly #shelves: readonly Shelf[];
  readonly #ghostsMax: number;
  /** What nodes have beside their pages. */
  readonly #sides: SideParts;
  readonly #nodes = new Map<string, PageNode>();
  /** null: nothing is below the device. */
  readonly #arrivals: Arrivals | null;
  /** Pages that are one sequence's own. */
  #ownPages = 0;
  #nowNs = 0;
  /** The last of what is being written to a store: no room is made among what it continues. */
  readonly #leaving: PageNode[] = [];

  constructor(options: PrefixTreeOptions) {
    const { pages, pageTokens, isEnabled, tiers, snapshots, window } = options;
    this.window = window ?? null;
    this.#pageTokens = pageTokens;
    this.#isEnabled = isEnabled;
    this.#tiers = tiers ?? null;
    this.#arrivals = tiers === undefined ? null : new Arrivals(tiers.mover);
    this.snapshots = snapshots ?? null;
    this.#policy = tiers?.policy ?? lru();
    this.#sides = new SideParts(this.window, this.snapshots, this.#sideStores());
    const slots = tiers?.mover.slots;
    const places = [pages, slots?.host.context ?? 0, slots?.disk.context ?? 0, 0];
    this.#shelves = places.map((count, tier) => new Shelf(tier, count));
    const all = places.reduce((sum, count) => sum + count, 0);
    this.#ghostsMax = tiers === undefined ? 0 : Math.max(GHOSTS_MIN, GHOSTS_PER_PLACE * all);
  }

  #sideStores(): SideStores | null {
    if (this.#tiers === null) return null;
    const { mover, policy } = this.#tiers;
    const isAdmitted = (node: PageNode, store: StoreName) =>
      policy.admits([node], this.#shelves[TIERS.indexOf(store)]!, this.#nowNs) > 0;
    return {
      mover,
      counters: this.accounts.parts,
      isAdmitted,
      isStateAdmitted: (node, worth, store) =>
        policy.admitsState?.(worth, store) ?? isAdmitted(node, store),
    };
  }

  /** Pages of the device. */
  get pages(): number {
    return this.#shelves[DEVICE]!.places;
  }

  /** Pages that `take` could hand out now. */
  get available(): number {
    const device = this.#shelves[DEVICE]!;
    return device.free + device.queued;
  }

  get held(): number {
    return this.pages - this.available;
  }

  /** Whether content is on its way to the device. */
  get isRestoring(): boolean {
    return this.#arrivals?.isEmpty === false;
  }

  /** The time from here on: reuse is learnt by it. */
  advance(nowNs: number): void {
    this.#nowNs = nowNs;
  }

  // ---------------------------------------------------------------- sequences

  /** What exists of a waiting sequence. Its last token never counts: its logits are wanted. */
  match(sequence: PagedSequence): PrefixMatch {
    if (!this.#isEnabled) return NO_MATCH;
    const most = Math.floor((sequence.length - 1) / this.#pageTokens);
    const found: PageNode[] = [];
    while (found.length < most) {
      const node = this.#nodes.get(this.#keyOf(sequence, found.length));
      if (node === undefined || !node.isResident) break;
      if (node.at[DEVICE] === NOWHERE && sequence.isDistrustful) break;
      found.push(node);
    }
    const pages = this.#sides.continuable(found, !sequence.isDistrustful);
    let onDevice = 0;
    let fromCache = 0;
    for (const node of found.slice(0, pages)) {
      if (node.at[DEVICE] === NOWHERE) continue;
      onDevice += 1;
      if (node.holders === 0) fromCache += 1;
    }
    const match = { pages, onDevice, fromCache };
    const last = found.at(-1);
    if (this.snapshots === null || last === undefined || pages === found.length) return match;
    const knownPages = found.length;
    return { ...match, knownPages, branchPages: isContinued(last) ? knownPages : 0 };
  }

  /**
   * Of what was found of a prefix that is gone on from at its end alone, as much as the sequence
   * has soonest: all, once what is in stores has come, or what needs nothing from stores.
   */
  #soonest(sequence: PagedSequence, found: readonly PageNode[], others: number): number {
    const end = found.length;
    if (this.#tiers === null || !this.#sides.exist) return end;
    const missing = found.filter((node) => node.at[DEVICE] === NOWHERE);
    const sides = this.#sides.missingBehind(found);
    if (missing.length + sides.length === 0) return end;
    const gap = found.findIndex((node) => node.at[DEVICE] === NOWHERE);
    const first = this.#sides.continuable(gap < 0 ? found : found.slice(0, gap), false);
    // What others hold would have to be there twice.
    const isHeld = ({ at, holders }: PageNode) => at[DEVICE] !== NOWHERE && holders > 0;
    const shared = found.slice(0, first).filter(isHeld).length;
    if (Math.ceil(sequence.length / this.#pageTokens) - shared > this.available) return end;
    const { prices } = this.#tiers;
    let laneNs = 0;
    for (const node of missing) laneNs += prices.readNs(TIERS[storeOf(node)]!);
    for (const { stored, node } of sides) {
      laneNs += prices.readNs(stored.storeOf(node)!, stored.part);
    }
    const isOnDisk =
      missing.some((node) => storeOf(node) === DISK) ||
      sides.some(({ stored, node }) => stored.storeOf(node) === 'disk');
    const why = computedFor({
      first,
      end,
      recomputeNs: (index) => prices.recomputeNs(index),
      laneNs,
      launchNs: prices.launchNs(),
      queueNs: this.#queueNs(isOnDisk),
      others,
    });
    if (why === null) return end;
    this.#countRecomputed(sequence, why, end - first);
    return first;
  }

  /**
   * Makes the sequence a holder of what was matched a moment ago, with pages for all of it, which
   * are available. Says how many leading pages need not be computed before others: those after them
   * that are in stores come by themselves, or are computed too, whichever is sooner while so many
   * other requests wait for the device. Where a prefix is gone on from at its end alone, nothing is
   * computed before all of it is there.
   */
  claim(sequence: PagedSequence, match: PrefixMatch, others = 0): number {
    const { knownPages = 0, branchPages = 0 } = match;
    if (knownPages > 0 && match.pages + branchPages === 0) this.snapshots!.miss(sequence);
    const found: PageNode[] = [];
    for (let index = 0; index < match.pages; index++) {
      const node = this.#nodes.get(sequence.pageKeys[index]!);
      invariant(node?.isResident === true, 'what was matched stays until it is claimed');
      this.accounts.hit(node);
      found.push(node);
    }
    const pages = this.#soonest(sequence, found, others);
    sequence.snapshotPages = pages;
    sequence.branchPages = branchPages;
    for (const node of found.slice(0, pages)) {
      this.#use(node);
      this.#hold(node);
      sequence.nodes.push(node);
    }
    const { nodes } = sequence;
    const sides = this.#sides.missingBehind(nodes);
    this.#sides.pin(sides);
    const isReady = (node: PageNode) => node.at[DEVICE] !== NOWHERE && node.arrival === null;
    let ready = nodes.findIndex((node) => !isReady(node));
    if (ready < 0) ready = pages;
    const missing = nodes.filter((node) => node.at[DEVICE] === NOWHERE);
    const fresh = this.take(missing.length);
    const run = this.#sides.exist ? null : this.#storedRun(sequence, ready, others);
    const first = run === null ? ready : splitOf(run);
    if (run !== null && first > ready) {
      this.#countRecomputed(sequence, reasonOf(run, first), first - ready);
    }
    if (sequence.isDistrustful) this.#countDistrusted(sequence);
    let used = 0;
    for (const node of nodes) {
      const isMissing = node.at[DEVICE] === NOWHERE;
      const page = isMissing ? fresh[used++]! : node.at[DEVICE]!;
      sequence.pages.push(page);
      if (isMissing && node.index >= first) this.#put(node, DEVICE, page);
    }
    const brought = missing.filter(({ index }) => index >= first);
    this.#ownPages -= brought.length;
    this.#sides.admit(sequence, sides);
    if (this.#sides.exist) this.#restoreWhole(sequence, brought, sides);
    else this.#restore(sequence, brought);
    this.#sides.unpin();
    sequence.published = ready;
    const arrivals = new Set<Restoring>();
    for (const arrival of [...nodes.map(arrivalOf), ...this.#sides.arrivalsBehind(nodes)]) {
      if (arrival !== null) arrivals.add(arrival as Restoring);
    }
    for (const arrival of arrivals) arrival.waiting.add(sequence);
    sequence.awaited = null;
    if (arrivals.size === 0) return ready;
    const state = this.snapshots === null ? null : nodes.at(-1)!;
    if (state !== null) this.snapshots!.hold(state);
    sequence.awaited = { first: this.#sides.exist ? 0 : first, end: pages, arrivals, state };
    return this.#sides.exist ? 0 : ready;
  }

  /** Pages of the device with undefined content, for one sequence. They are available. */
  take(count: number): number[] {
    const device = this.#shelves[DEVICE]!;
    while (device.free < count) {
      invariant(this.#evict(device, count - device.free), 'pages are taken that are available');
    }
    this.#ownPages += count;
    return Array.from({ length: count }, () => device.take());
  }

  /**
   * Frees some pages before they are taken, as far as the mover has room for what goes with them:
   * a prompt takes many at once, and what finds no room is lost.
   */
  evictAhead(): void {
    if (this.#tiers === null) return;
    const device = this.#shelves[DEVICE]!;
    const wanted = Math.floor(device.places * AHEAD_SHARE);
    while (device.free < wanted && device.queued > 0) {
      const freed = device.free;
      this.#evict(device, wanted - device.free, true);
      if (device.free === freed) return;
    }
  }

  /**
   * Makes the full pages of the sequence's first `computed` tokens findable: their KV is on the
   * device, or under way in work that is queued there. Where another holds the same content in a
   * page of its own, the sequence's stays unknown until that one is let go: it would otherwise hold
   * both, and what fits alone might not fit.
   */
  publish(sequence: PagedSequence, computed: number): void {
    if (!this.#isEnabled) return;
    const full = Math.floor(Math.min(computed, sequence.length) / this.#pageTokens);
    for (; sequence.published < full; sequence.published++) {
      const index = sequence.published;
      const isClaimed = index < sequence.nodes.length;
      if (!isClaimed && this.#isHeldElsewhere(this.#keyOf(sequence, index))) return;
      const node = sequence.nodes[index] ?? this.#join(sequence, index);
      if (node.at[DEVICE] !== NOWHERE) {
        if (isClaimed) continue;
        this.#leave(node, DEVICE);
      }
      this.#ownPages -= 1;
      this.#put(node, DEVICE, sequence.pages[index]!);
      this.window?.publish(sequence, index);
    }
  }

  /**
   * Where the state is that a sequence goes on from, all of whose claimed pages are there; NOWHERE:
   * it needs none. It is copied from there by the next launch.
   */
  continueFrom(sequence: PagedSequence): number {
    const { nodes, awaited } = sequence;
    sequence.awaited = null;
    const last = nodes.at(-1);
    if (last === undefined || this.snapshots === null) return NOWHERE;
    if (awaited !== null) this.snapshots.letGo(last);
    return this.snapshots.use(last);
  }

  /** What was planned so far is launched before anything else is. */
  launch(): void {
    this.snapshots?.launch();
  }

  /** Whether launches should end between pages, where snapshots can be taken. */
  get wantsBorders(): boolean {
    return this.#isEnabled && this.snapshots !== null;
  }

  /** At which token the next chunk of a sequence has to end at the latest (`SnapshotPool`). */
  borderOf(sequence: PagedSequence, computed: number): number {
    return this.wantsBorders ? this.snapshots!.borderOf(sequence, computed) : Infinity;
  }

  /**
   * A place for the state after the sequence's first `computed` tokens, to which it is to be copied
   * behind the launch that computes them and before any other; NOWHERE: it is not to be kept. The
   * pages of these were published.
   */
  takeSnapshot(sequence: PagedSequence, computed: number): number {
    const pages = computed / this.#pageTokens;
    const snapshots = this.snapshots;
    if (snapshots === null || !this.#isEnabled) return NOWHERE;
    if (!Number.isInteger(pages) || !snapshots.pays(sequence, pages)) return NOWHERE;
    const node = this.#nodes.get(this.#keyOf(sequence, pages - 1));
    if (node === undefined || !node.isResident) return NOWHERE;
    return snapshots.take(node, sequence);
  }

  /** Gives back all that the sequence has: it ended, or starts over later. */
  release(sequence: PagedSequence): void {
    const { pages, nodes } = sequence;
    this.window?.release(sequence);
    const state = sequence.awaited?.state ?? null;
    if (state !== null) this.snapshots!.letGo(state);
    if (this.#policy.writesThrough) this.#writeThrough(nodes);
    for (const arrival of sequence.awaited?.arrivals ?? []) {
      (arrival as Restoring).waiting.delete(sequence);
    }
    // The last pages first: a prefix's first pages are the most likely to be wanted again, so they
    // are evicted last.
    for (let index = pages.length - 1; index >= 0; index--) {
      const page = pages[index]!;
      const node = nodes[index];
      if (node?.at[DEVICE] !== page) {
        this.#shelves[DEVICE]!.giveBack(page);
        this.#ownPages -= 1;
      }
      if (node !== undefined) this.#letGo(node);
    }
    // The last ones first, too: what continues a page goes before it.
    const arrivals = [...(sequence.awaited?.arrivals ?? [])].reverse();
    for (const arrival of arrivals) this.#stopUnwanted(arrival);
    pages.length = 0;
    nodes.length = 0;
    sequence.published = 0;
    sequence.awaited = null;
    sequence.snapshotPages = 0;
    sequence.branchPages = 0;
  }

  // ---------------------------------------------------------------- movement

  /**
   * Takes in what the mover has ended. Returns sequences that wait for what will not come: they are
   * to be released, and to start over, before anything else is done.
   */
  settle(): ReadonlySet<PagedSequence> {
    if (this.#tiers === null) return NONE;
    const failed = new Set<PagedSequence>();
    for (const event of this.#tiers.mover.settled()) {
      for (const sequence of this.#settleOne(event)) failed.add(sequence);
    }
    for (const { tenant, nodes, waiting } of this.#arrivals!.takeLate(this.#nowNs)) {
      this.accounts.count(tenant, 'late', nodes.length);
      for (const sequence of waiting) failed.add(sequence);
    }
    return failed;
  }

  /** What no sequence holds has lost its content on the device. */
  forgetDevice(): void {
    for (const node of this.#nodes.values()) {
      if (this.#shelves[DEVICE]!.has(node)) {
        this.#leave(node, DEVICE);
        if (!node.isResident) this.#forget(node);
      }
      if (node.holders === 0) this.#sides.leaveDevice(node);
    }
  }

  #settleOne(event: Settled): Iterable<PagedSequence> {
    switch (event.kind) {
      case 'restored': {
        const restoring = this.#arrivals!.get(event.id);
        if (restoring === undefined || !event.isComplete) return [];
        this.#arrivals!.end(restoring);
        for (const { stored, node } of restoring.sides) {
          stored.pool.arrived(node);
          stored.restored();
        }
        for (const node of [...restoring.held].reverse()) this.#letGo(node);
        return [];
      }
      case 'restore-failed': {
        const restoring = this.#arrivals!.get(event.id);
        if (restoring === undefined) return [];
        restoring.hasFailed = true;
        this.#lose(restoring.tier, event.lost);
        return restoring.waiting;
      }
      case 'slots-lost':
        this.#lose(TIERS.indexOf(event.store), event.lost);
        return [];
      case 'spilled':
        return [];
    }
  }

  /** Asks for what a sequence waits for, run by run of what is in the same store. */
  #restore(sequence: PagedSequence, nodes: readonly PageNode[]): void {
    if (nodes.length === 0) return;
    const { mover } = this.#tiers!;
    const leastPages = Math.max(mover.pagesTogether, Math.ceil(nodes.length / PARTS_MAX));
    // The last pages first: the first ones are computed after all where they come too late.
    for (let to = nodes.length; to > 0; ) {
      const tier = storeOf(nodes[to - 1]!);
      let from = to - 1;
      const isPart = (node: PageNode) => storeOf(node) === tier && to - from < leastPages;
      while (from > 0 && isPart(nodes[from - 1]!)) from -= 1;
      this.#ask(sequence, tier, nodes.slice(from, to), []);
      to = from;
    }
  }

  /** Asks for all that a sequence waits for, of each store at once: none of it is given up. */
  #restoreWhole(sequence: PagedSequence, nodes: readonly PageNode[], sides: readonly Side[]): void {
    for (const store of STORES) {
      const tier = TIERS.indexOf(store);
      const pages = nodes.filter((node) => storeOf(node) === tier);
      const others = sides.filter(({ stored, node }) => stored.storeOf(node) === store);
      if (pages.length + others.length > 0) this.#ask(sequence, tier, pages, others);
    }
  }

  /** Asks for pages, and what is beside them, of one store. */
  #ask(
    sequence: PagedSequence,
    tier: number,
    nodes: readonly PageNode[],
    sides: readonly Side[],
  ): void {
    const { held } = this.#arrivals!.ask(sequence, tier, nodes, sides, this.#nowNs);
    for (const node of held) this.#hold(node);
    this.#countRestored(sequence, TIERS[tier] as StoreName, nodes.length);
  }

  /**
   * Decides again for a sequence that has nothing to compute until something arrives: the first
   * parts of that are computed instead where this is sooner by now.
   */
  reconsider(sequence: PagedSequence, others: number): void {
    const { awaited } = sequence;
    if (awaited === null || this.#sides.exist) return;
    const coming: Restoring[] = [];
    let { first } = awaited;
    for (let index = first; index < awaited.end; index = coming.at(-1)!.nodes.at(-1)!.index + 1) {
      const arrival = sequence.nodes[index]!.arrival as Restoring | null;
      // What another waits for as well is not this one's to give up.
      if (arrival === null || !isOnlyFor(sequence, arrival, index)) break;
      coming.push(arrival);
    }
    if (coming.length === 0) return;
    const { prices, mover } = this.#tiers!;
    const latestNs = Math.max(0, ...[...awaited.arrivals].map(idOf).map((id) => mover.dueNs(id)));
    const parts = coming.map(({ nodes, id }, part) => {
      const isLast = part === coming.length - 1;
      // Where what follows cannot be given up, all of it is waited for in any case.
      const dueNs = isLast && coming.length < awaited.arrivals.size ? latestNs : mover.dueNs(id);
      return { first: nodes[0]!.index, end: nodes.at(-1)!.index + 1, dueNs };
    });
    const { recomputeNs } = prices;
    const launchNs = prices.launchNs();
    for (const arrival of coming.slice(0, givenUpOf({ parts, recomputeNs, launchNs, others }))) {
      this.#computeInstead(sequence, arrival);
      first = arrival.nodes.at(-1)!.index + 1;
    }
    sequence.awaited = first === awaited.end ? null : { ...awaited, first };
  }

  /** The pages of what was to come are the sequence's own, and it computes them. */
  #computeInstead(sequence: PagedSequence, arrival: Restoring): void {
    const { tenant } = sequence.request;
    this.#tiers!.mover.cancel(arrival.id);
    this.#arrivals!.end(arrival);
    // The sequence holds all of them itself.
    for (const node of arrival.held) node.holders -= 1;
    for (const node of arrival.nodes) {
      this.#shelves[DEVICE]!.remove(node);
      this.accounts.moved(tenant, DEVICE, -1);
    }
    const { length } = arrival.nodes;
    this.#ownPages += length;
    this.#countRestored(sequence, TIERS[arrival.tier] as StoreName, -length);
    this.#countRecomputed(sequence, 'lane_slower', length);
  }

  /** When the first arrival is late, should nothing come before; null: none is under way. */
  get lateNs(): number | null {
    return this.#arrivals?.lateNs ?? null;
  }

  /** Pages in stores from `ready` on, of which the first may be computed; null: none is. */
  #storedRun({ nodes }: PagedSequence, ready: number, others: number): StoredRun | null {
    let end = ready;
    while (end < nodes.length && nodes[end]!.at[DEVICE] === NOWHERE) end += 1;
    if (end === ready) return null;
    const { prices } = this.#tiers!;
    return {
      first: ready,
      end,
      recomputeNs: (index) => prices.recomputeNs(index),
      readNs: (index) => prices.readNs(TIERS[storeOf(nodes[index]!)]!),
      launchNs: prices.launchNs(),
      queueNs: this.#queueNs(nodes.slice(ready, end).some((node) => storeOf(node) === DISK)),
      others,
    };
  }

  /** Until the first of what is in stores would be brought. */
  #queueNs(isOnDisk: boolean): number {
    const { restoreNs, diskNs } = this.#tiers!.mover.queue();
    // The lane carries what it has while the disk reads.
    return isOnDisk ? Math.max(restoreNs, diskNs) : restoreNs;
  }

  /** What is in stores of a sequence that takes nothing from them: it is computed. */
  #countDistrusted(sequence: PagedSequence): void {
    const full = Math.floor((sequence.length - 1) / this.#pageTokens);
    const known = [...sequence.nodes];
    while (known.length < full) {
      const node = this.#nodes.get(this.#keyOf(sequence, known.length));
      if (node === undefined || !node.isResident) break;
      known.push(node);
    }
    const computed = known
      .slice(0, this.#sides.continuable(known, true))
      .filter(({ at, index }) => {
        return index >= sequence.nodes.length && (this.#sides.exist || at[DEVICE] === NOWHERE);
      });
    this.#countRecomputed(sequence, 'failed', computed.length);
  }

  #countRecomputed({ request, kvShares }: PagedSequence, why: RecomputedFor, pages: number): void {
    if (pages === 0) return;
    this.accounts.recompute(request.tenant, why, pages);
    kvShares.push({ what: 'recomputed', why, tokens: pages * this.#pageTokens });
  }

  /** Less than none where it is not brought after all. */
  #countRestored({ request, kvShares }: PagedSequence, from: StoreName, pages: number): void {
    this.accounts.count(request.tenant, 'restored', pages);
    kvShares.push({ what: 'restored', from, tokens: pages * this.#pageTokens });
  }

  /** An arrival for which no sequence waits is given up, unless one holds what it brings. */
  #stopUnwanted(arrival: Arrival): void {
    const restoring = arrival as Restoring;
    if (restoring.waiting.size > 0 || this.#arrivals!.get(restoring.id) === undefined) return;
    if (!restoring.hasFailed) this.#tiers!.mover.cancel(restoring.id);
    this.#arrivals!.end(restoring);
    for (const { stored, node } of restoring.sides) stored.pool.failed(node, stored.has(node));
    const without = new Set(restoring.nodes);
    for (const node of [...restoring.held].reverse()) {
      if (!without.has(node)) {
        this.#letGo(node);
        continue;
      }
      node.holders -= 1;
      this.#leave(node, DEVICE);
      if (node.holders === 0) this.#rest(node);
    }
  }

  #lose(tier: number, lost: readonly StoredPart[]): void {
    for (const { part, slot } of lost) {
      if (part !== 'context') {
        this.#sides.lose(part, TIERS[tier] as StoreName, slot);
        continue;
      }
      const node = this.#shelves[tier]!.nodeAt(slot);
      if (node === undefined) continue;
      this.accounts.count(node.tenant, 'lost', 1);
      node.goneFor = 'lost';
      this.#leave(node, tier);
      if (node.holders === 0) this.#rest(node);
    }
  }

  // ---------------------------------------------------------------- eviction

  /**
   * Frees up to `most` places of a tier, the tail of one prefix; false: nothing can go. Early: what
   * the mover has no room for stays.
   */
  #evict(shelf: Shelf, most: number, isEarly = false): boolean {
    const span = this.#victims(shelf, most);
    if (span.length === 0) return false;
    const { tier } = shelf;
    const isElsewhere = (node: PageNode) =>
      node.at.some((place, index) => index !== tier && place !== NOWHERE);
    const below = tier + 1 < TIERS.length ? this.#shelves[tier + 1]! : null;
    const unstored = span.filter((node) => !isElsewhere(node));
    const refused = below === null ? 0 : this.#lower(unstored, below);
    // It stays with all that it continues, until the mover has room.
    if (refused > 0 && isEarly) return true;
    for (const node of span.reverse()) {
      if (node.at[tier] === NOWHERE) continue;
      this.#leave(node, tier);
      if (node.isResident) this.#rejoin(node);
      else this.#forget(node);
    }
    return true;
  }

  /** The last pages of a prefix that the policy gives up: no page that goes is continued there. */
  #victims(shelf: Shelf, most: number): PageNode[] {
    if (shelf.queued === 0) return [];
    const { tier } = shelf;
    let tail = this.#policy.victim(shelf, this.#nowNs);
    const childIn = (node: PageNode) => {
      for (const child of node.children ?? []) if (child.at[tier] !== NOWHERE) return child;
      return undefined;
    };
    const queue = tail.links[tier]!.queue;
    for (let child = childIn(tail); child !== undefined; child = childIn(tail)) tail = child;
    const canGo = (node: PageNode) => node.holders === 0 && !this.#continuesInto(node);
    if (!canGo(tail)) return [];
    const span = [tail];
    for (let { parent } = tail; parent !== null && span.length < most; parent = parent.parent) {
      const isAlike = parent.links[tier]?.queue === queue && parent.usedNs <= tail.usedNs;
      if (!isAlike || inTier(parent, tier) > 1 || !canGo(parent)) break;
      span.push(parent);
    }
    return span.reverse();
  }

  /** Whether what is being written now continues this node. */
  #continuesInto(node: PageNode): boolean {
    return this.#leaving.some((last) => {
      let each: PageNode | null = last;
      while (each !== null && each.index > node.index) each = each.parent;
      return each === node;
    });
  }

  /**
   * Writes neighbours that leave the tier above, and are nowhere else, to this one: as many of the
   * first as the policy, the room and the mover allow. Says how many the mover had no room for.
   */
  #lower(span: readonly PageNode[], shelf: Shelf): number {
    if (span.length === 0 || shelf.places === 0) return 0;
    const useful = span.slice(0, this.#usefulIn(shelf, span));
    const admitted = useful.length > 0 ? this.#policy.admits(useful, shelf, this.#nowNs) : 0;
    const wanted = useful.slice(0, admitted);
    this.#giveUp('avoided', span.slice(wanted.length));
    if (wanted.length === 0) return 0;
    this.#leaving.push(span[span.length - 1]!);
    while (shelf.free < wanted.length && this.#evict(shelf, wanted.length - shelf.free)) {}
    this.#leaving.pop();
    const fits = wanted.slice(0, shelf.free);
    this.#giveUp('avoided', wanted.slice(fits.length));
    if (fits.length === 0) return 0;
    const slots = fits.map(() => shelf.take());
    const taken = shelf.tier === HOST ? this.#spill(fits, slots) : this.#demote(fits, slots);
    for (const slot of slots.slice(taken)) shelf.giveBack(slot);
    for (const [index, node] of fits.slice(0, taken).entries()) {
      this.#put(node, shelf.tier, slots[index]!);
    }
    this.#giveUp('refused', fits.slice(taken));
    return fits.length - taken;
  }

  /** Of neighbours, how many lead to where a sequence can go on from what the store has. */
  #usefulIn({ tier }: Shelf, span: readonly PageNode[]): number {
    const isContinuedThere = inTier(span[span.length - 1]!, tier) > 0;
    if (!this.#sides.exist || isContinuedThere) return span.length;
    return span.findLastIndex((node) => this.#sides.has(node)) + 1;
  }

  /** They are not written to the tier below. */
  #giveUp(what: 'avoided' | 'refused', nodes: readonly PageNode[]): void {
    if (nodes.length === 0) return;
    this.accounts.count(nodes[0]!.tenant, what, nodes.length);
    for (const node of nodes) node.goneFor = what === 'avoided' ? 'not_written' : 'refused';
  }

  #spill(nodes: readonly PageNode[], slots: readonly number[]): number {
    const moves = nodes.map(({ at, key }, index) => {
      return { part: 'context', page: at[DEVICE]!, slot: slots[index]!, key } as const;
    });
    const { tenant } = nodes[0]!;
    const taken = this.#tiers!.mover.spill({ tenant, moves });
    this.accounts.count(tenant, 'spilled', taken);
    return taken;
  }

  #demote(nodes: readonly PageNode[], slots: readonly number[]): number {
    const demotions = nodes.map(({ at, key }, index) => {
      return { part: 'context', hostSlot: at[HOST]!, diskSlot: slots[index]!, key } as const;
    });
    this.#tiers!.mover.demote(nodes[0]!.tenant, demotions);
    for (const node of nodes) this.#sides.demote(node);
    this.accounts.count(nodes[0]!.tenant, 'demoted', nodes.length);
    return nodes.length;
  }

  /** A request that ends has computed these; what is nowhere below is written there. */
  #writeThrough(nodes: readonly PageNode[]): void {
    const isNew = (node: PageNode) =>
      !node.isStored && node.at[DEVICE] !== NOWHERE && node.arrival === null;
    this.#lower(nodes.filter(isNew), this.#shelves[HOST]!);
  }

  // ---------------------------------------------------------------- nodes

  #isHeldElsewhere(key: string): boolean {
    const node = this.#nodes.get(key);
    return node !== undefined && node.at[DEVICE] !== NOWHERE && node.holders > 0;
  }

  /** The sequence's node at that index, which it holds from now on. */
  #join(sequence: PagedSequence, index: number): PageNode {
    const key = this.#keyOf(sequence, index);
    let node = this.#nodes.get(key);
    if (node === undefined) {
      const parent = sequence.nodes[index - 1] ?? null;
      node = new PageNode(key, sequence.request.tenant, parent);
      if (parent !== null) {
        parent.children ??= new Set();
        parent.children.add(node);
      }
      this.#nodes.set(key, node);
    } else if (!node.isResident) {
      this.#countRecomputed(sequence, node.goneFor, 1);
    }
    this.#use(node);
    this.#hold(node);
    sequence.nodes.push(node);
    return node;
  }

  #use(node: PageNode): void {
    this.#policy.used?.(node, this.#nowNs);
    node.hits += 1;
    node.usedNs = this.#nowNs;
  }

  /** What is held stays wherever it is. */
  #hold(node: PageNode): void {
    node.holders += 1;
    if (node.holders > 1) return;
    for (const shelf of this.#shelves) {
      const isStore = shelf.tier === HOST || shelf.tier === DISK;
      if (!(isStore && this.#policy.keepsOrder)) shelf.leave(node);
    }
  }

  #letGo(node: PageNode): void {
    invariant(node.holders > 0, 'a node is let go once for each holder');
    node.holders -= 1;
    if (node.holders === 0) this.#rest(node);
  }

  /** No sequence holds it: it can be given up wherever it is, and goes with its last content. */
  #rest(node: PageNode): void {
    if (node.isResident) this.#rejoin(node);
    else this.#forget(node);
  }

  #rejoin(node: PageNode): void {
    if (node.holders > 0) return;
    for (const shelf of this.#shelves) {
      if (shelf.tier === GHOST || node.at[shelf.tier] === NOWHERE) continue;
      const queue = this.#policy.queueOf(node, shelf);
      // What was not used, or keeps its place in the order, only changes its queue.
      if (node.links[shelf.tier]?.queue !== queue) shelf.join(node, queue);
    }
  }

  /** Its content is at a place of the tier that was taken for it. */
  #put(node: PageNode, tier: number, place: number): void {
    this.#shelves[GHOST]!.leave(node);
    this.#shelves[tier]!.put(node, place);
    node.goneFor = 'evicted';
    this.accounts.moved(node.tenant, tier, 1);
    if (node.holders === 0) this.#rejoin(node);
  }

  /** Gives up its place in the tier. */
  #leave(node: PageNode, tier: number): void {
    const shelf = this.#shelves[tier]!;
    const place = shelf.remove(node);
    shelf.giveBack(place);
    this.accounts.moved(node.tenant, tier, -1);
    if (tier !== DEVICE) {
      const store = tier === HOST ? 'host' : 'disk';
      this.#tiers!.mover.drop(store, [{ part: 'context', slot: place }]);
    }
  }

  /** Has no content any more, nor has what continues it; it is remembered for a while. */
  #forget(node: PageNode): void {
    const ghosts = this.#shelves[GHOST]!;
    for (const each of continued(node, (child) => child.isResident)) {
      invariant(each.holders === 0, 'what is held is not forgotten');
      for (let tier = DEVICE; tier <= DISK; tier++) {
        if (each.at[tier] !== NOWHERE) this.#leave(each, tier);
      }
      this.#sides.forget(each);
      // What continues it goes because it does.
      each.goneFor = node.goneFor;
      ghosts.join(each, 0);
    }
    while (ghosts.queued > this.#ghostsMax) this.#strike(ghosts.first(0)!);
  }

  /** Knows nothing of it any more, nor of what continues it: that has no content either. */
  #strike(node: PageNode): void {
    for (const each of continued(node, () => true)) {
      this.#shelves[GHOST]!.leave(each);
      this.#nodes.delete(each.key);
      each.parent?.children?.delete(each);
    }
  }

  #keyOf(sequence: PagedSequence, index: number): string {
    const { pageKeys } = sequence;
    for (let next = pageKeys.length; next <= index; next++) {
      const parent = pageKeys[next - 1] ?? rootKey(sequence.request.tenant);
      const from = next * this.#pageTokens;
      pageKeys.push(pageKey(parent, sequence.tokens(from, from + this.#pageTokens)));
    }
    return pageKeys[index]!;
  }
}

const arrivalOf = ({ arrival }: PageNode) => arrival;
const idOf = (arrival: Arrival) => (arrival as Restoring).id;

function storeOf(node: PageNode): number {
  return node.at[HOST] !== NOWHERE ? HOST : DISK;
}

/** The node and what continues it, as far as it is `wanted`: what continues comes first. */
function continued(node: PageNode, wanted: (child: PageNode) => boolean): PageNode[] {
  const found = [node];
  for (const each of found) {
    for (const child of each.children ?? []) if (wanted(child)) found.push(child);
  }
  return found.reverse();
}

/** Whether content of others continues the node's. */
function isContinued({ children }: PageNode): boolean {
  for (const child of children ?? []) if (child.isResident) return true;
  return false;
}

/** How many nodes that continue this one are in the tier; two stand for more. */
function inTier(node: PageNode, tier: number): number {
  let count = 0;
  for (const child of node.children ?? []) {
    if (child.at[tier] !== NOWHERE) count += 1;
    if (count > 1) break;
  }
  return count;
}
