/** Ages are told apart by factors of the square root of two, from 4 s on. */
const FIRST_EDGE_S = 4;
const BUCKETS = 24;
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

/**
 * When pages are used again, learnt from uses as they come: for each class how many were used, and
 * how many of them again, by how long ago the last time was.
 */
export class ReuseTable {
  readonly #classes: { uses: number; readonly returns: Float64Array }[];
  readonly #outlooks: ({ readonly atUses: number; readonly ages: Outlook[] } | undefined)[];
  #usesSinceHalved = 0;

  constructor(classes: number) {
    this.#classes = Array.from({ length: classes }, () => {
      return { uses: 0, returns: new Float64Array(BUCKETS) };
    });
    this.#outlooks = new Array(classes).fill(undefined);
  }

  /** A page was used, which now is of this class. */
  used(now: number): void {
    this.#classes[now]!.uses += 1;
    this.#usesSinceHalved += 1;
    if (this.#usesSinceHalved < HALF_LIFE_USES) return;
    this.#usesSinceHalved = 0;
    for (const each of this.#classes) {
      each.uses /= 2;
      for (let bucket = 0; bucket < BUCKETS; bucket++) each.returns[bucket]! /= 2;
    }
    this.#outlooks.fill(undefined);
  }

  /** A page that was last used `ageNs` ago, and was of this class since, is used again. */
  returned(since: number, ageNs: number): void {
    this.#classes[since]!.returns[bucketOf(ageNs)]! += 1;
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

  #workOut(of: number): Outlook[] {
    const { uses, returns } = this.#classes[of]!;
    // Pages that reach each bucket's age unused. One more than there were: none is sure to return.
    const reach = new Float64Array(BUCKETS);
    let left = uses + 1;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      reach[bucket] = left;
      left = Math.max(0, left - returns[bucket]!);
    }
    return Array.from({ length: BUCKETS }, (_, from) => {
      const horizons: Horizon[] = [];
      let best = NEVER;
      let returned = 0;
      let heldSeconds = 0;
      for (let until = from; until < BUCKETS && reach[from]! > 0; until++) {
        returned += returns[until]!;
        heldSeconds += (reach[until]! - returns[until]! / 2) * widthOf(until);
        const horizon = {
          probability: returned / reach[from]!,
          holdSeconds: heldSeconds / reach[from]!,
        };
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
