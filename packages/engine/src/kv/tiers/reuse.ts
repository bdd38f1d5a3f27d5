/** Ages are told apart by factors of the square root of two, from 4 s on. */
const FIRST_EDGE_S = 4;
const BUCKETS = 24;
/** As many as the ages span. */
const SLOTS = 2 ** ((BUCKETS - 1) / 2 + 0.5);
/** What was learnt counts half after so many uses. */
const HALF_LIFE_USES = 250_000;
/** An outlook is worked out anew once a class was used so many times, or by so much of its uses. */
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
  /** By when they were used last, in slots of the first age. */
  readonly waiting: Float64Array;
  /** Those that are older than all slots. */
  waitedLong: number;
}

/**
 * When pages are used again, learnt from uses as they come: for each class and age how many were
 * used again at that age, of those that reached it. What was used lately has not reached the later
 * ages, and says nothing of them.
 */
export class ReuseTable {
  readonly #classes: Class[];
  readonly #outlooks: ({ readonly atUses: number; readonly ages: Outlook[] } | undefined)[];
  #usesSinceHalved = 0;
  /** The slot of the present. */
  #slot = 0;

  constructor(classes: number) {
    this.#classes = Array.from({ length: classes }, () => ({
      uses: 0,
      returns: new Float64Array(BUCKETS),
      waiting: new Float64Array(SLOTS),
      waitedLong: 0,
    }));
    this.#outlooks = new Array(classes).fill(undefined);
  }

  /** A page was used, which now is of this class. */
  used(now: number, nowNs: number): void {
    this.#advance(nowNs);
    const each = this.#classes[now]!;
    each.uses += 1;
    each.waiting[this.#slot % SLOTS]! += 1;
    this.#usesSinceHalved += 1;
    if (this.#usesSinceHalved < HALF_LIFE_USES) return;
    this.#usesSinceHalved = 0;
    for (const half of this.#classes) {
      half.uses /= 2;
      half.waitedLong /= 2;
      for (let bucket = 0; bucket < BUCKETS; bucket++) half.returns[bucket]! /= 2;
      for (let slot = 0; slot < SLOTS; slot++) half.waiting[slot]! /= 2;
    }
    this.#outlooks.fill(undefined);
  }

  /** A page that was last used `ageNs` ago, and was of this class since, is used again. */
  returned(since: number, ageNs: number, nowNs: number): void {
    this.#advance(nowNs);
    const each = this.#classes[since]!;
    each.returns[bucketOf(ageNs)]! += 1;
    const slot = slotOf(nowNs - ageNs);
    // Halving may have left less than returns.
    if (slot <= this.#slot - SLOTS) each.waitedLong = Math.max(0, each.waitedLong - 1);
    else each.waiting[slot % SLOTS] = Math.max(0, each.waiting[slot % SLOTS]! - 1);
  }

  outlook(of: number, ageNs: number): Outlook {
    const { uses } = this.#classes[of]!;
    let known = this.#outlooks[of];
    if (known === undefined || uses > known.atUses * 1.05 + STALE_USES || uses < known.atUses) {
      known = { atUses: uses, ages: this.#workOut(of) };
      this.#outlooks[of] = known;
    }
    return known.ages[bucketOf(ageNs)]!;
  }

  /** What waits for longer than the oldest slot is counted together. */
  #advance(nowNs: number): void {
    const slot = slotOf(nowNs);
    const from = Math.max(this.#slot + 1, slot - SLOTS + 1);
    for (let next = from; next <= slot; next++) {
      for (const each of this.#classes) {
        each.waitedLong += each.waiting[next % SLOTS]!;
        each.waiting[next % SLOTS] = 0;
      }
    }
    this.#slot = Math.max(this.#slot, slot);
  }

  /** Of pages that reach each age, the share that is used again while it has it. */
  #shares({ returns, waiting, waitedLong }: Class): Float64Array {
    const waits = new Float64Array(BUCKETS);
    waits[BUCKETS - 1] = waitedLong;
    for (let age = 0; age < SLOTS; age++) {
      const slot = this.#slot - age;
      if (slot < 0) break;
      waits[bucketOf(age * FIRST_EDGE_S * 1e9)]! += waiting[slot % SLOTS]!;
    }
    const shares = new Float64Array(BUCKETS);
    let older = 0;
    for (let bucket = BUCKETS - 1; bucket >= 0; bucket--) {
      // What has this age now has had it for half of its time. One more: none is sure to return.
      const reached = older + returns[bucket]! + waits[bucket]! / 2 + 1;
      shares[bucket] = Math.min(1, returns[bucket]! / reached);
      older += returns[bucket]! + waits[bucket]!;
    }
    return shares;
  }

  #workOut(of: number): Outlook[] {
    const shares = this.#shares(this.#classes[of]!);
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
