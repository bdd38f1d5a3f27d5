/** Slots of each length: ages are known to a thirty-second of themselves, or better. */
const SLOTS = 64;

/**
 * Pages that wait for their next use, counted by when the last one was: the longer ago, the
 * coarser. A time is a whole number of the shortest slots; the present never goes back.
 */
export class WaitingPages {
  /** By length of slots, each twice as long as those of the one before. */
  readonly #levels: readonly Float64Array[];
  #present = 0;
  /** Of those that were used before all slots. */
  #longAgo = 0;

  constructor(levels: number) {
    this.#levels = Array.from({ length: levels }, () => new Float64Array(SLOTS));
  }

  /** One was used now. */
  add(present: number): void {
    this.#advance(present);
    this.#levels[0]![present % SLOTS]! += 1;
  }

  /** One that was used then waits no longer, as far as any is known of. */
  remove(usedAt: number, present: number): void {
    this.#advance(present);
    for (const [level, counts] of this.#levels.entries()) {
      const slot = slotOf(usedAt, level);
      if (slot <= slotOf(present, level) - SLOTS) continue;
      counts[slot % SLOTS] = Math.max(0, counts[slot % SLOTS]! - 1);
      return;
    }
    this.#longAgo = Math.max(0, this.#longAgo - 1);
  }

  /** Says how many have waited for how long; `Infinity` is longer than is told apart. */
  byAge(present: number, each: (age: number, count: number) => void): void {
    this.#advance(present);
    for (const [level, counts] of this.#levels.entries()) {
      const last = slotOf(this.#present, level);
      for (let slot = last; slot > last - SLOTS && slot >= 0; slot--) {
        const count = counts[slot % SLOTS]!;
        // What was used in a slot was so in the middle of it.
        const usedAt = (slot + 0.5) * 2 ** level - 0.5;
        if (count > 0) each(Math.max(0, this.#present - usedAt), count);
      }
    }
    if (this.#longAgo > 0) each(Infinity, this.#longAgo);
  }

  /** All that waits counts half. */
  halve(): void {
    for (const counts of this.#levels) {
      for (let slot = 0; slot < SLOTS; slot++) counts[slot]! /= 2;
    }
    this.#longAgo /= 2;
  }

  /** What is in no slot of its length any more is in one that is twice as long. */
  #advance(present: number): void {
    if (present <= this.#present) return;
    // The longest first: what comes up from below finds no slot that another has still to leave.
    for (let level = this.#levels.length - 1; level >= 0; level--) {
      const counts = this.#levels[level]!;
      const oldest = slotOf(this.#present, level) - SLOTS + 1;
      const next = Math.min(slotOf(present, level) - SLOTS + 1, oldest + SLOTS);
      for (let slot = Math.max(0, oldest); slot < next; slot++) {
        this.#age(slot, level, counts[slot % SLOTS]!, present);
        counts[slot % SLOTS] = 0;
      }
    }
    this.#present = present;
  }

  /** Counts of a slot go up to the first level that has one for them. */
  #age(slot: number, from: number, count: number, present: number): void {
    for (let level = from + 1; level < this.#levels.length; level++) {
      const longer = slotOf(slot, level - from);
      if (longer <= slotOf(present, level) - SLOTS) continue;
      this.#levels[level]![longer % SLOTS]! += count;
      return;
    }
    this.#longAgo += count;
  }
}

function slotOf(time: number, level: number): number {
  return Math.floor(time / 2 ** level);
}
