import { invariant } from '@bridgekeeper/bridge';
import { type Arrival, NOWHERE, type PageNode, type SidePool } from './page-node.ts';
import { ReturnChances } from './return-chances.ts';

/** What prompts take here, as far as it is known now. */
export interface PromptPrices {
  /** To compute the page with so many pages before it. */
  recomputeNs(index: number): number;
  /** The least that a launch takes. */
  launchNs(): number;
}

export interface SnapshotPoolOptions {
  /** Snapshots that there is memory for. */
  readonly places: number;
  readonly pageTokens: number;
  readonly prices: PromptPrices;
  /** What it costs to take one, in launches: the one that ends there, and the copy. */
  readonly costLaunches: number;
}

/** What the state after a node may save. */
export interface StateWorth {
  /** To compute the pages since the state before it. */
  readonly savedNs: number;
  /** That a request goes on from it. */
  readonly chance: number;
}

/** A sequence as far as its snapshots go, in pages. */
export interface SnapshotSequence {
  readonly request: { readonly tenant: string };
  readonly length: number;
  /** After so many pages its prefix had a snapshot last; 0: it has none. */
  snapshotPages: number;
  /** After so many pages others go on in another way than it does; 0: none is known to. */
  branchPages: number;
}

/** Sequences that are expected to go on from where a prompt ends, and from where several part. */
const INTEREST = { end: 1, branch: 2 } as const;
/** The number of those that came is believed up to this, so that what was popular can go. */
const MOST_INTEREST = 8;

interface Kept {
  readonly node: PageNode;
  /** The first page of its prefix, and the last snapshot in it before this one; null: none. */
  readonly first: PageNode;
  before: Kept | null;
  /** Its prompt was divided for it, and not where others parted from it. */
  readonly isEnd: boolean;
  /** Sequences that are expected to go on from here. */
  interest: number;
  hasBeenUsed: boolean;
  /** The pool's when it was taken or used last. */
  floor: number;
  /** What brings it from a store; null: it is there. */
  arrival: Arrival | null;
  /** Sequences that go on from it once all that they wait for is there. */
  waiting: number;
  /** The launches that write it, or read it last, among those that were planned. */
  writtenIn: number;
  readIn: number;
}

/**
 * Which states of constant size are kept of those that rows went through. A snapshot is the whole
 * state of a row as it was after a page of some prefix: without one, the pages of a prefix cannot
 * be continued. All are of one size, so that what goes first is what saves the least (GreedyDual):
 * the pages between the snapshot before it and itself, times those that are expected to go on from
 * it. Whenever one goes, what it was worth becomes the floor that others are added to when they are
 * taken or used, so that what is not used gets old.
 *
 * A prompt is divided for a snapshot, which costs a launch and a copy, where what it saves is more
 * than that, times the chance that it is used. The chance is learnt from what became of others.
 *
 * Decides and accounts only: whoever takes a snapshot copies it behind all that was queued before.
 *
 * What is written to a store, or comes from one, moves before the launch that is being planned. So
 * a state that this launch writes cannot be stored yet, and the place of one that it reads is given
 * to a snapshot that it takes, and to nothing that comes.
 */
export class SnapshotPool implements SidePool {
  readonly places: number;
  /** Told of a state that goes, and what it may save; null: it cannot be moved. Is it stored? */
  whenEvicted: (node: PageNode, worth: StateWorth | null) => boolean = () => false;
  readonly counters = { taken: 0, used: 0, evicted: 0 };
  readonly #pageTokens: number;
  readonly #prices: PromptPrices;
  readonly #costLaunches: number;
  readonly #free: number[] = [];
  readonly #kept: (Kept | undefined)[];
  /** The same; what was taken or used longest ago comes first. */
  readonly #order = new Set<Kept>();
  /** What is in stores alone, as it was when it left. */
  readonly #stored = new Map<PageNode, Kept>();
  /** Launches that were planned before the one that is being planned now. */
  #launches = 0;
  #floor = 0;
  /** By what became of snapshots at ends of prompts. */
  readonly #chances = new ReturnChances();

  constructor({ places, pageTokens, prices, costLaunches }: SnapshotPoolOptions) {
    this.places = places;
    this.#pageTokens = pageTokens;
    this.#prices = prices;
    this.#costLaunches = costLaunches;
    this.#kept = new Array(places).fill(undefined);
    for (let place = places - 1; place >= 0; place--) this.#free.push(place);
  }

  get held(): number {
    return this.places - this.#free.length;
  }

  /**
   * Tokens of a sequence, of which so many are computed, at which its next chunk is to end, so that
   * a snapshot can be taken there; Infinity: anywhere.
   */
  borderOf(sequence: SnapshotSequence, computed: number): number {
    for (const pages of [sequence.branchPages, this.#endOf(sequence)]) {
      const border = pages * this.#pageTokens;
      if (border > computed && this.pays(sequence, pages)) return border;
    }
    return Infinity;
  }

  /** The last page that can be continued: there is no logits line without a token. */
  #endOf({ length }: SnapshotSequence): number {
    return Math.floor((length - 1) / this.#pageTokens);
  }

  /** Whether a snapshot of a sequence after so many pages is likely to save what it costs. */
  pays({ request, snapshotPages, branchPages }: SnapshotSequence, pages: number): boolean {
    if (pages <= snapshotPages) return false;
    // What a page takes grows evenly with those before it.
    const middle = (snapshotPages + pages - 1) / 2;
    const savedNs = (pages - snapshotPages) * this.#prices.recomputeNs(middle);
    // Where nothing is known yet, whatever can be kept is.
    if (savedNs === 0) return true;
    const interest = pages === branchPages ? INTEREST.branch : INTEREST.end;
    const chance = Math.min(1, interest * this.#chances.of(request.tenant));
    return savedNs * chance >= this.#costLaunches * this.#prices.launchNs();
  }

  /**
   * A place for the state after the node, to which the sequence has come; what was there is
   * overwritten. NOWHERE: it has a snapshot already.
   */
  take(node: PageNode, sequence: SnapshotSequence): number {
    const pages = node.index + 1;
    sequence.snapshotPages = pages;
    if (node.snapshot !== NOWHERE) return NOWHERE;
    const place = this.#take(false);
    if (place === NOWHERE) return NOWHERE;
    const { first, before } = this.#lineOf(node);
    // Its sequence is expected to go on from here, and there no longer.
    if (before !== null) before.interest = Math.max(0, before.interest - 1);
    const isBranch = pages === sequence.branchPages;
    const interest = isBranch ? INTEREST.branch : INTEREST.end;
    const isEnd = !isBranch && pages === this.#endOf(sequence);
    this.#stored.delete(node);
    this.#keep(place, {
      node,
      first,
      before,
      isEnd,
      interest,
      hasBeenUsed: false,
      floor: this.#floor,
      arrival: null,
      waiting: 0,
      writtenIn: this.#launches,
      readIn: -1,
    });
    this.counters.taken += 1;
    return place;
  }

  /** What was planned so far is launched now. */
  launch(): void {
    this.#launches += 1;
  }

  /** Whether there is a place for a state from a store. */
  get hasRoom(): boolean {
    if (this.#free.length > 0) return true;
    for (const kept of this.#order) if (this.#canGo(kept, true)) return true;
    return false;
  }

  /** Takes a place, where there is room, for the node's state, which is in a store. */
  bring(node: PageNode): void {
    const kept = this.#stored.get(node);
    invariant(kept !== undefined, 'what comes is in a store');
    const place = this.#take(true);
    invariant(place !== NOWHERE, 'what comes has a place');
    // What had its place may have been stored, but this goes on to be the pool's.
    this.#stored.delete(node);
    const { first, before } = this.#lineOf(node);
    this.#keep(place, { ...kept, first, before, floor: this.#floor, writtenIn: -1, readIn: -1 });
  }

  /** Of a node's state, wherever it is; null: none is known. */
  worthOf(node: PageNode): StateWorth | null {
    const kept = this.#kept[node.snapshot] ?? this.#stored.get(node);
    return kept === undefined ? null : this.#worthOf(kept);
  }

  placeOf({ snapshot }: PageNode): number {
    return snapshot;
  }

  arrivalOf({ snapshot }: PageNode): Arrival | null {
    return this.#kept[snapshot]?.arrival ?? null;
  }

  comes({ snapshot }: PageNode, arrival: Arrival): void {
    this.#kept[snapshot]!.arrival = arrival;
  }

  arrived({ snapshot }: PageNode): void {
    this.#kept[snapshot]!.arrival = null;
  }

  failed({ snapshot }: PageNode, isStored: boolean): void {
    const kept = this.#kept[snapshot]!;
    kept.arrival = null;
    invariant(kept.waiting === 0, 'what comes is given up once no sequence waits for it');
    this.#remove(kept);
    if (isStored) this.#stored.set(kept.node, kept);
  }

  lost(node: PageNode): void {
    const kept = this.#stored.get(node);
    if (kept === undefined) return;
    this.#stored.delete(node);
    this.#learnUnused(kept);
  }

  /** A sequence will go on from the node, which has its state or waits for it. */
  hold({ snapshot }: PageNode): void {
    this.#kept[snapshot]!.waiting += 1;
  }

  letGo({ snapshot }: PageNode): void {
    this.#kept[snapshot]!.waiting -= 1;
  }

  /** A sequence goes on from the node. Its place. */
  use(node: PageNode): number {
    const kept = this.#kept[node.snapshot];
    invariant(kept?.node === node, 'only prefixes with a snapshot are continued');
    // The first to come is one of those that were expected.
    if (kept.hasBeenUsed) kept.interest = Math.min(MOST_INTEREST, kept.interest + 1);
    else if (kept.isEnd) this.#chances.learn(node.tenant, true);
    kept.hasBeenUsed = true;
    kept.readIn = this.#launches;
    kept.floor = this.#floor;
    this.#order.delete(kept);
    this.#order.add(kept);
    this.counters.used += 1;
    return node.snapshot;
  }

  /** A prompt came again, and there was none at its end: there it would have been used. */
  miss({ request }: SnapshotSequence): void {
    this.#chances.learn(request.tenant, true);
  }

  /** Forgets the node's snapshot, if it has one; `isStored`: on the device alone. */
  drop(node: PageNode, isStored = false): void {
    const kept = this.#kept[node.snapshot];
    if (kept === undefined) return;
    this.#remove(kept);
    if (isStored) this.#stored.set(node, kept);
    else this.#learnUnused(kept);
  }

  #keep(place: number, kept: Kept): void {
    const { node, first, before } = kept;
    for (const other of this.#order) {
      if (other.first === first && other.before === before && continues(other.node, node)) {
        other.before = kept;
      }
    }
    this.#kept[place] = kept;
    this.#order.add(kept);
    node.snapshot = place;
  }

  #remove(kept: Kept): void {
    const { node } = kept;
    this.#order.delete(kept);
    for (const other of this.#order) if (other.before === kept) other.before = kept.before;
    this.#kept[node.snapshot] = undefined;
    this.#free.push(node.snapshot);
    node.snapshot = NOWHERE;
  }

  /** Where a node is among what is kept. */
  #lineOf(node: PageNode): Pick<Kept, 'first' | 'before'> {
    let first = node;
    while (first.parent !== null) {
      first = first.parent;
      const before = this.#kept[first.snapshot];
      if (before !== undefined) return { first: before.first, before };
    }
    return { first, before: null };
  }

  #learnUnused({ node, isEnd, hasBeenUsed }: Kept): void {
    if (isEnd && !hasBeenUsed) this.#chances.learn(node.tenant, false);
  }

  /** Whether its place can be another's; `comes`: something is brought there. */
  #canGo({ arrival, waiting, writtenIn, readIn }: Kept, comes: boolean): boolean {
    if (arrival !== null || waiting > 0) return false;
    return !comes || (writtenIn !== this.#launches && readIn !== this.#launches);
  }

  #take(comes: boolean): number {
    if (this.#free.length === 0) this.#evict(comes);
    return this.#free.pop() ?? NOWHERE;
  }

  #evict(comes: boolean): void {
    let least: Kept | undefined;
    let leastWorth = Infinity;
    for (const kept of this.#order) {
      if (!this.#canGo(kept, comes)) continue;
      const worth = kept.floor + kept.interest * savedPages(kept);
      if (worth >= leastWorth) continue;
      least = kept;
      leastWorth = worth;
    }
    if (least === undefined) return;
    this.#floor = leastWorth;
    this.counters.evicted += 1;
    const canMove = least.writtenIn !== this.#launches;
    this.drop(least.node, this.whenEvicted(least.node, canMove ? this.#worthOf(least) : null));
  }

  #worthOf(kept: Kept): StateWorth {
    const pages = savedPages(kept);
    const { index, tenant } = kept.node;
    const savedNs = pages * this.#prices.recomputeNs(index - (pages - 1) / 2);
    return { savedNs, chance: Math.min(1, kept.interest * this.#chances.of(tenant)) };
  }
}

/** Pages that need not be computed because of it. */
function savedPages({ node, before }: Kept): number {
  return node.index - (before === null ? -1 : before.node.index);
}

/** Whether a node is part of what leads to another. */
function continues(later: PageNode, node: PageNode): boolean {
  let each: PageNode | null = later;
  while (each !== null && each.index > node.index) each = each.parent;
  return each === node;
}
