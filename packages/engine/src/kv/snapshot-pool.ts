import { invariant } from '@bridgekeeper/bridge';
import { NOWHERE, type PageNode } from './page-node.ts';

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

/** A sequence as far as its snapshots go, in pages. */
export interface SnapshotSequence {
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
/** Of snapshots at ends of prompts, so many are remembered as used or not. */
const REMEMBERED = 64;

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
 */
export class SnapshotPool {
  readonly places: number;
  readonly counters = { taken: 0, used: 0, evicted: 0 };
  readonly #pageTokens: number;
  readonly #prices: PromptPrices;
  readonly #costLaunches: number;
  readonly #free: number[] = [];
  readonly #kept: (Kept | undefined)[];
  /** The same; what was taken or used longest ago comes first. */
  readonly #order = new Set<Kept>();
  #floor = 0;
  /** What became of snapshots at ends of prompts; it begins with one of each. */
  #used = 1;
  #unused = 1;

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
  pays({ snapshotPages, branchPages }: SnapshotSequence, pages: number): boolean {
    if (pages <= snapshotPages) return false;
    // What a page takes grows evenly with those before it.
    const middle = (snapshotPages + pages - 1) / 2;
    const savedNs = (pages - snapshotPages) * this.#prices.recomputeNs(middle);
    // Where nothing is known yet, whatever can be kept is.
    if (savedNs === 0) return true;
    const interest = pages === branchPages ? INTEREST.branch : INTEREST.end;
    const chance = Math.min(1, (interest * this.#used) / (this.#used + this.#unused));
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
    if (this.#free.length === 0) this.#evict();
    const place = this.#free.pop();
    if (place === undefined) return NOWHERE;
    const { first, before } = this.#placeOf(node);
    // Its sequence is expected to go on from here, and there no longer.
    if (before !== null) before.interest = Math.max(0, before.interest - 1);
    const isBranch = pages === sequence.branchPages;
    const interest = isBranch ? INTEREST.branch : INTEREST.end;
    const isEnd = !isBranch && pages === this.#endOf(sequence);
    const floor = this.#floor;
    const kept: Kept = { node, first, before, isEnd, interest, hasBeenUsed: false, floor };
    for (const other of this.#order) {
      if (other.first === first && other.before === before && continues(other.node, node)) {
        other.before = kept;
      }
    }
    this.#kept[place] = kept;
    this.#order.add(kept);
    node.snapshot = place;
    this.counters.taken += 1;
    return place;
  }

  /** A sequence goes on from the node. Its place. */
  use(node: PageNode): number {
    const kept = this.#kept[node.snapshot];
    invariant(kept?.node === node, 'only prefixes with a snapshot are continued');
    // The first to come is one of those that were expected.
    if (kept.hasBeenUsed) kept.interest = Math.min(MOST_INTEREST, kept.interest + 1);
    else if (kept.isEnd) this.#learn(true);
    kept.hasBeenUsed = true;
    kept.floor = this.#floor;
    this.#order.delete(kept);
    this.#order.add(kept);
    this.counters.used += 1;
    return node.snapshot;
  }

  /** A prompt came again, and there was none at its end: there it would have been used. */
  miss(): void {
    this.#learn(true);
  }

  /** Forgets the node's snapshot, if it has one. */
  drop(node: PageNode): void {
    const kept = this.#kept[node.snapshot];
    if (kept === undefined) return;
    if (kept.isEnd && !kept.hasBeenUsed) this.#learn(false);
    this.#order.delete(kept);
    for (const other of this.#order) if (other.before === kept) other.before = kept.before;
    this.#kept[node.snapshot] = undefined;
    this.#free.push(node.snapshot);
    node.snapshot = NOWHERE;
  }

  /** Where a node is among what is kept. */
  #placeOf(node: PageNode): Pick<Kept, 'first' | 'before'> {
    let first = node;
    while (first.parent !== null) {
      first = first.parent;
      const before = this.#kept[first.snapshot];
      if (before !== undefined) return { first: before.first, before };
    }
    return { first, before: null };
  }

  #learn(wasUsed: boolean): void {
    if (wasUsed) this.#used += 1;
    else this.#unused += 1;
    if (this.#used + this.#unused <= REMEMBERED) return;
    this.#used /= 2;
    this.#unused /= 2;
  }

  #evict(): void {
    let least: Kept | undefined;
    let leastWorth = Infinity;
    for (const kept of this.#order) {
      const worth = kept.floor + kept.interest * savedPages(kept);
      if (worth >= leastWorth) continue;
      least = kept;
      leastWorth = worth;
    }
    if (least === undefined) return;
    this.#floor = leastWorth;
    this.counters.evicted += 1;
    this.drop(least.node);
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
