import { WaitingPages } from './waiting.ts';

/**
 * Ages are told apart by factors of the square root of two, from 4 s to 8 days: what is older than
 * the last edge would count as little older, and be worth far too much.
 */
const FIRST_EDGE_S = 4;
const BUCKETS = 36;
/** Lengths of slots in which pages that wait are counted: as many as the ages span. */
const LEVELS = 13;
/**
 * An age that fewer pages have reached says little: they are of few prefixes, which return whole.
 * For those that are missing counts the age before.
 */
const ENOUGH_PAGES = 500;
/** What was learnt counts half after so many uses. */
const HALF_LIFE_USES = 250_000;
/** An outlook is worked out anew once there were so many uses of what it is learnt from. */
const STALE_USES = 500;

/** What may be expected of a page until one of several ages. */
export interface Horizon {
  /** That it is used again before. */
  readonly probability: number;
  /** For which it must be kept: until it is used or reaches the age. */
  readonly holdSeconds: number;
}

/** Of a page of some class and age, which has not been used since. */
export interface Outlook {
  readonly horizons: readonly Horizon[];
  /** The horizon that brings the most uses for each second of keeping. */
  readonly best: Horizon;
}

const NEVER: Horizon = { probability: 0, holdSeconds: 1 };

/** One class of pages: those that were used again, by age, and those that were not yet. */
interface Class {
  uses: number;
  readonly returns: Float64Array;
  readonly waiting: WaitingPages;
}

/**
 * When pages are used again, learnt from uses as they come: for each class and age how many were
 * used again at that age, of those that reached it. What was used lately has not reached the later
 * ages, and says nothing of them. Pages pass through classes in their order: of one that few have
 * reached, what is known of the class before it is believed.
 */
export class ReuseTable {
  readonly #classes: Class[];
  readonly #outlooks: ({ readonly atUses: number; readonly ages: Outlook[] } | undefined)[];
  #usesSinceHalved = 0;
  /** The time of the last use, in slots. */
  #present = 0;

  constructor(classes: number) {
    this.#classes = Array.from({ length: classes }, () => ({
      uses: 0,
      returns: new Float64Array(BUCKETS),
      waiting: new WaitingPages(LEVELS),
    }));
    this.#outlooks = new Array(classes).fill(undefined);
  }

  /** A page was used, which now is of this class. */
  used(now: number, nowNs: number): void {
    this.#present = Math.max(this.#present, slotOf(nowNs));
    const each = this.#classes[now]!;
    each.uses += 1;
    each.waiting.add(this.#present);
    this.#usesSinceHalved += 1;
    if (this.#usesSinceHalved < HALF_LIFE_USES) return;
    this.#usesSinceHalved = 0;
    for (const half of this.#classes) {
      half.uses /= 2;
      for (let bucket = 0; bucket < BUCKETS; bucket++) half.returns[bucket]! /= 2;
      half.waiting.halve();
    }
    this.#outlooks.fill(undefined);
  }

  /** A page that was last used `ageNs` ago, and was of this class since, is used again. */
  returned(since: number, ageNs: number, nowNs: number): void {
    const each = this.#classes[since]!;
    each.returns[bucketOf(ageNs)]! += 1;
    this.#present = Math.max(this.#present, slotOf(nowNs));
    each.waiting.remove(slotOf(nowNs - ageNs), this.#present);
  }

  outlook(of: number, ageNs: number): Outlook {
    const uses = this.#classes.slice(0, of + 1).reduce((sum, each) => sum + each.uses, 0);
    let known = this.#outlooks[of];
    if (known === undefined || uses > known.atUses * 1.05 + STALE_USES || uses < known.atUses) {
      known = { atUses: uses, ages: this.#workOut(of) };
      this.#outlooks[of] = known;
    }
    return known.ages[bucketOf(ageNs)]!;
  }

  /** Of pages that reach each age, the share that is used again while it has it. */
  #shares(of: number): Float64Array {
    const { returns, waiting } = this.#classes[of]!;
    // Until it is known, what was used once more returns like what was not.
    const lower = of === 0 ? null : this.#shares(of - 1);
    const waits = new Float64Array(BUCKETS);
    waiting.byAge(this.#present, (slots, pages) => {
      waits[bucketOf(slots * FIRST_EDGE_S * 1e9)]! += pages;
    });
    let reached = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) reached += returns[bucket]! + waits[bucket]!;
    let before = 0;
    return returns.map((returned, bucket) => {
      // What has this age now has had it for half of its time.
      const had = reached - waits[bucket]! / 2;
      reached -= returned + waits[bucket]!;
      const missing = Math.max(0, ENOUGH_PAGES - had);
      // One more: none is sure to return.
      const believed = lower?.[bucket] ?? before;
      before = Math.min(1, (returned + missing * believed) / (had + missing + 1));
      return before;
    });
  }

  #workOut(of: number): Outlook[] {
    const shares = this.#shares(of);
    return Array.from({ length: BUCKETS }, (_, from) => {
      const horizons: Horizon[] = [];
      let best = NEVER;
      let left = 1;
      let holdSeconds = 0;
      for (let until = from; until < BUCKETS && left > 0; until++) {
        const returns = left * shares[until]!;
        holdSeconds += (left - returns / 2) * widthOf(until);
        left -= returns;
        const horizon = { probability: 1 - left, holdSeconds };
        horizons.push(horizon);
        if (usesPerSecond(horizon) > usesPerSecond(best)) best = horizon;
      }
      return { horizons, best };
    });
  }
}

/** How often it is used for the time for which it is kept. */
export function usesPerSecond({ probability, holdSeconds }: Horizon): number {
  return probability / holdSeconds;
}

function edgeOf(bucket: number): number {
  return FIRST_EDGE_S * 2 ** (bucket / 2);
}

function widthOf(bucket: number): number {
  return bucket === 0 ? FIRST_EDGE_S : edgeOf(bucket) - edgeOf(bucket - 1);
}

function bucketOf(ageNs: number): number {
  const steps = Math.floor(2 * Math.log2(ageNs / 1e9 / FIRST_EDGE_S)) + 1;
  return Math.max(0, Math.min(BUCKETS - 1, steps));
}

function slotOf(ns: number): number {
  return Math.floor(ns / 1e9 / FIRST_EDGE_S);
}
