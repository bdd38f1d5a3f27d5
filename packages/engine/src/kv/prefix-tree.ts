import { invariant } from '@bridgekeeper/bridge';
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
import { Shelf } from './shelf.ts';
import type { SnapshotPool, SnapshotSequence } from './snapshot-pool.ts';
import { TierAccounts } from './tiers/accounts.ts';
import type { KvShare } from './tiers/kv-shares.ts';
import type { Mover, RestoreId, Settled, StoredPart, StoreName } from './tiers/movement.ts';
import { lru } from './tiers/policies/lru.ts';
import type { TierPolicy } from './tiers/policy.ts';
import type { KvPrices } from './tiers/prices.ts';
import { givenUpOf, reasonOf, type StoredRun, splitOf } from './tiers/split.ts';
import type { WindowPages, WindowPool } from './window-pool.ts';

/** A sequence as far as its pages go. */
export interface PagedSequence extends SnapshotSequence {
  readonly request: { readonly tenant: string };
  readonly length: number;
  /** A view of tokens [from, to). */
  tokens(from: number, to: number): Uint32Array;
  /** Pages of the device, in the order of its tokens; empty while it waits. */
  readonly pages: number[];
  /** Pages of layers that see a window; absent: it has none in a pool of their own. */
  readonly window?: WindowPages;
  /** Keys of its full pages, as far as they were needed. */
  readonly pageKeys: string[];
  /** The nodes that it holds, from the first page on. */
  readonly nodes: PageNode[];
  /** Leading pages whose content is, or will be, what their nodes say. */
  published: number;
  /** What it must not compute, because it is there or comes; null: there is no more of that. */
  awaited: Awaited | null;
  /** It waited for what did not come: it takes no more from stores. */
  isDistrustful: boolean;
  /** What it had of stores, as it came about. */
  readonly kvShares: KvShare[];
}

/** Pages [first, end) of a sequence are there once all has arrived; those before are computed. */
export interface Awaited {
  readonly first: number;
  readonly end: number;
  /** Those not there yet. */
  readonly arrivals: Set<Arrival>;
}

/** What exists already of a sequence. */
export interface PrefixMatch {
  /** Leading pages whose content is somewhere. */
  readonly pages: number;
  /** Of those, pages that are on the device, or on their way there. */
  readonly onDevice: number;
  /** Of the latter, pages that no sequence holds: holding them takes available pages. */
  readonly fromCache: number;
  /** So many leading pages are known, of which more cannot be continued; absent: none. */
  readonly knownPages?: number | undefined;
  /** The same, if others go on from there in another way; 0: none does. */
  readonly branchPages?: number | undefined;
}

export const NO_MATCH: PrefixMatch = { pages: 0, onDevice: 0, fromCache: 0 };

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
/** What takes so many times as long as it should, and this, does not come any more. */
const LATE_RATIO = 10;
const LATE_LEAST_NS = 10e9;

const NONE: ReadonlySet<PagedSequence> = new Set();

/** An arrival as the tree knows it. */
interface Restoring extends Arrival {
  readonly id: RestoreId;
  readonly tier: number;
  /** From then on it is late: nobody waits for it any longer. */
  readonly lateNs: number;
  readonly waiting: Set<PagedSequence>;
  hasFailed: boolean;
}

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
  readonly #nodes = new Map<string, PageNode>();
  readonly #restoring = new Map<RestoreId, Restoring>();
  /** Pages that are one sequence's own. */
  #ownPages = 0;
  #nowNs = 0;
  /** The last of what is being written to a store: no room is made among what it continues. */
  readonly #leaving: PageNode[] = [];

  constructor(options: PrefixTreeOptions) {
    const { pages, pageTokens, isEnabled, tiers, snapshots, window } = options;
    invariant(tiers === undefined || window === undefined, 'what moves to tiers is one page');
    this.window = window ?? null;
    this.#pageTokens = pageTokens;
    this.#isEnabled = isEnabled;
    this.#tiers = tiers ?? null;
    this.snapshots = snapshots ?? null;
    this.#policy = tiers?.policy ?? lru();
    const { host, disk } = tiers?.mover.slots ?? { host: {}, disk: {} };
    const places = [pages, host.context ?? 0, disk.context ?? 0, 0];
    this.#shelves = places.map((count, tier) => new Shelf(tier, count));
    const all = places.reduce((sum, count) => sum + count, 0);
    this.#ghostsMax = tiers === undefined ? 0 : Math.max(GHOSTS_MIN, GHOSTS_PER_PLACE * all);
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
    return this.#restoring.size > 0;
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
    const pages = this.#continuable(found);
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

  /** Of leading nodes of a prefix, those behind which a sequence can go on. */
  #continuable(nodes: readonly PageNode[]): number {
    const seen = this.window?.continuable(nodes) ?? nodes.length;
    if (this.snapshots === null || seen === 0) return seen;
    const kept = nodes.slice(0, seen).findLastIndex(({ snapshot }) => snapshot !== NOWHERE) + 1;
    // Without its last pages, what comes before them may have no window either.
    return kept === seen ? seen : this.#continuable(nodes.slice(0, kept));
  }

  /**
   * Makes the sequence a holder of what was matched a moment ago, with pages for all of it, which
   * are available. Says how many leading pages need not be computed before others: those after them
   * that are in stores come by themselves, or are computed too, whichever is sooner while so many
   * other requests wait for the device.
   */
  claim(sequence: PagedSequence, match: PrefixMatch, others = 0): number {
    const { pages, knownPages = 0, branchPages = 0 } = match;
    sequence.snapshotPages = pages;
    sequence.branchPages = branchPages;
    if (knownPages > 0 && pages + branchPages === 0) this.snapshots!.miss();
    for (let index = 0; index < pages; index++) {
      const node = this.#nodes.get(sequence.pageKeys[index]!);
      invariant(node?.isResident === true, 'what was matched stays until it is claimed');
      this.accounts.hit(node);
      this.#use(node);
      this.#hold(node);
      sequence.nodes.push(node);
    }
    const { nodes } = sequence;
    const isReady = (node: PageNode) => node.at[DEVICE] !== NOWHERE && node.arrival === null;
    let ready = nodes.findIndex((node) => !isReady(node));
    if (ready < 0) ready = pages;
    const missing = nodes.filter((node) => node.at[DEVICE] === NOWHERE);
    const fresh = this.take(missing.length);
    const run = this.#storedRun(sequence, ready, others);
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
    this.#restore(sequence, brought);
    sequence.published = ready;
    const arrivals = new Set<Arrival>();
    for (const { arrival } of nodes) {
      if (arrival === null) continue;
      arrivals.add(arrival);
      (arrival as Restoring).waiting.add(sequence);
    }
    sequence.awaited = first < pages ? { first, end: pages, arrivals } : null;
    return ready;
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

  /** Where the state is that a sequence goes on from, which has just claimed so many pages. */
  continueFrom({ nodes }: PagedSequence, pages: number): number {
    return pages === 0 || this.snapshots === null ? NOWHERE : this.snapshots.use(nodes.at(-1)!);
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
    for (const restoring of this.#restoring.values()) {
      if (restoring.hasFailed || this.#nowNs < restoring.lateNs) continue;
      restoring.hasFailed = true;
      this.#tiers.mover.cancel(restoring.id);
      this.accounts.count(restoring.nodes[0]!.tenant, 'late', restoring.nodes.length);
      for (const sequence of restoring.waiting) failed.add(sequence);
    }
    return failed;
  }

  /** What no sequence holds has lost its content on the device. */
  forgetDevice(): void {
    for (const node of this.#nodes.values()) {
      if (!this.#shelves[DEVICE]!.has(node)) continue;
      this.#leave(node, DEVICE);
      if (!node.isResident) this.#forget(node);
    }
  }

  #settleOne(event: Settled): Iterable<PagedSequence> {
    switch (event.kind) {
      case 'restored': {
        const restoring = this.#restoring.get(event.id);
        if (restoring === undefined || !event.isComplete) return [];
        this.#end(restoring);
        for (const node of [...restoring.nodes].reverse()) this.#letGo(node);
        return [];
      }
      case 'restore-failed': {
        const restoring = this.#restoring.get(event.id);
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
    const { tenant } = sequence.request;
    const { mover } = this.#tiers!;
    const leastPages = Math.max(mover.pagesTogether, Math.ceil(nodes.length / PARTS_MAX));
    // The last pages first: the first ones are computed after all where they come too late.
    for (let to = nodes.length; to > 0; ) {
      const tier = storeOf(nodes[to - 1]!);
      let from = to - 1;
      const isPart = (node: PageNode) => storeOf(node) === tier && to - from < leastPages;
      while (from > 0 && isPart(nodes[from - 1]!)) from -= 1;
      const run = nodes.slice(from, to);
      const moves = run.map(({ key, at }) => {
        return { part: 'context', page: at[DEVICE]!, slot: at[tier]!, key } as const;
      });
      const store = tier === HOST ? 'host' : 'disk';
      const id = mover.restore({ from: store, tenant, moves });
      const lateNs = this.#nowNs + LATE_LEAST_NS + LATE_RATIO * mover.dueNs(id);
      const waiting = new Set([sequence]);
      const restoring = { id, tier, lateNs, nodes: run, waiting, hasFailed: false };
      this.#restoring.set(id, restoring);
      for (const node of run) {
        node.arrival = restoring;
        this.#hold(node);
      }
      this.#countRestored(sequence, store, run.length);
      to = from;
    }
  }

  /**
   * Decides again for a sequence that has nothing to compute until something arrives: the first
   * parts of that are computed instead where this is sooner by now.
   */
  reconsider(sequence: PagedSequence, others: number): void {
    const { awaited } = sequence;
    if (awaited === null) return;
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
    const { end, arrivals } = awaited;
    sequence.awaited = first === end ? null : { first, end, arrivals };
  }

  /** The pages of what was to come are the sequence's own, and it computes them. */
  #computeInstead(sequence: PagedSequence, arrival: Restoring): void {
    const { tenant } = sequence.request;
    this.#tiers!.mover.cancel(arrival.id);
    this.#end(arrival);
    for (const node of arrival.nodes) {
      node.holders -= 1;
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
    let firstNs: number | null = null;
    for (const { lateNs } of this.#restoring.values()) {
      firstNs = firstNs === null ? lateNs : Math.min(firstNs, lateNs);
    }
    return firstNs;
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
      queueNs: this.#queueNs(nodes.slice(ready, end)),
      others,
    };
  }

  /** Until the first of these, which are in stores, would be brought. */
  #queueNs(nodes: readonly PageNode[]): number {
    const { restoreNs, diskNs } = this.#tiers!.mover.queue();
    // The lane carries what it has while the disk reads.
    const isOnDisk = nodes.some((node) => storeOf(node) === DISK);
    return isOnDisk ? Math.max(restoreNs, diskNs) : restoreNs;
  }

  /** What is in stores of a sequence that takes nothing from them: it is computed. */
  #countDistrusted(sequence: PagedSequence): void {
    const full = Math.floor((sequence.length - 1) / this.#pageTokens);
    let pages = 0;
    for (let index = sequence.nodes.length; index < full; index++) {
      const node = this.#nodes.get(this.#keyOf(sequence, index));
      if (node === undefined || !node.isResident) break;
      if (node.at[DEVICE] === NOWHERE) pages += 1;
    }
    this.#countRecomputed(sequence, 'failed', pages);
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
    if (restoring.waiting.size > 0 || !this.#restoring.has(restoring.id)) return;
    if (!restoring.hasFailed) this.#tiers!.mover.cancel(restoring.id);
    this.#end(restoring);
    for (const node of [...restoring.nodes].reverse()) {
      node.holders -= 1;
      this.#leave(node, DEVICE);
      if (node.holders === 0) this.#rest(node);
    }
  }

  #end(restoring: Restoring): void {
    this.#restoring.delete(restoring.id);
    for (const node of restoring.nodes) node.arrival = null;
    for (const { awaited } of restoring.waiting) awaited!.arrivals.delete(restoring);
  }

  #lose(tier: number, lost: readonly StoredPart[]): void {
    for (const { slot } of lost) {
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
    const wanted = span.slice(0, this.#policy.admits(span, shelf, this.#nowNs));
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
    if (tier === DEVICE) this.window?.forget(node);
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
      this.snapshots?.drop(each);
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

const idOf = (arrival: Arrival) => (arrival as Restoring).id;

/** Whether nobody but the sequence, which holds them, has to do with what comes from `first` on. */
function isOnlyFor(
  sequence: PagedSequence,
  { nodes, waiting, hasFailed }: Restoring,
  first: number,
): boolean {
  const isAlone = waiting.size === 1 && waiting.has(sequence) && !hasFailed;
  // The sequence holds each, and so does the arrival.
  return isAlone && nodes[0]!.index === first && nodes.every(({ holders }) => holders === 2);
}

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
