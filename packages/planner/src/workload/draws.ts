import { hash32, mix32 } from '@bridgekeeper/device';

/** What numbers are drawn for. Each purpose has its own, so that none shifts those of another. */
const PURPOSES = {
  arrivals: 1,
  lengths: 2,
  order: 3,
  prefix: 4,
  prompt: 5,
  chunk: 6,
} as const;

/** Reproducible random numbers of one seed, purpose and index. */
export class Draws {
  readonly #low: number;
  readonly #high: number;
  #count = 0;

  constructor(seed: number, purpose: keyof typeof PURPOSES, index = 0) {
    this.#low = mix32(seed ^ Math.imul(PURPOSES[purpose], 0x9e3779b9));
    this.#high = index >>> 0;
  }

  /** In [0, 1), a multiple of 2^-32. */
  uniform(): number {
    this.#count += 1;
    return (hash32(this.#low, this.#high, this.#count) >>> 0) / 2 ** 32;
  }

  /** A whole number from `min` to `max`, both included. */
  integer(min: number, max: number): number {
    return min + Math.floor(this.uniform() * (max - min + 1));
  }

  pick<T>(items: ArrayLike<T>): T {
    return items[this.integer(0, items.length - 1)]!;
  }

  /** `count` items, each drawn anew. */
  picks<T>(items: ArrayLike<T>, count: number): T[] {
    return Array.from({ length: count }, () => this.pick(items));
  }

  /** The items in another order. */
  shuffled<T>(items: readonly T[]): T[] {
    const order = [...items];
    for (let last = order.length - 1; last > 0; last--) {
      const other = this.integer(0, last);
      [order[last], order[other]] = [order[other]!, order[last]!];
    }
    return order;
  }

  /** Of the gamma distribution with this shape and scale 1. */
  gamma(shape: number): number {
    // Below 1: Marsaglia and Tsang's relation to the next higher shape.
    if (shape < 1) return this.gamma(shape + 1) * (1 - this.uniform()) ** (1 / shape);
    // Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
    const d = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const root = 1 + c * x;
      const v = root * root * root;
      if (v <= 0) continue;
      if (Math.log(1 - this.uniform()) < x * x * 0.5 + d - d * v + d * Math.log(v)) return d * v;
    }
  }

  /**
   * Of the standard normal distribution, by Marsaglia's polar method: no sine or cosine, whose last
   * bits differ between versions of V8.
   */
  normal(): number {
    for (;;) {
      const x = 2 * this.uniform() - 1;
      const y = 2 * this.uniform() - 1;
      const square = x * x + y * y;
      if (square > 0 && square < 1) return x * Math.sqrt((-2 * Math.log(square)) / square);
    }
  }
}
