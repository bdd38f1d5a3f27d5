/** How fast estimates follow what is observed. */
const FOLLOW = 0.2;
/** What a value is taken to be above its mean, in mean deviations. */
const DEVIATIONS = 1;

/** A duration that is observed again and again. */
export class Estimate {
  #meanNs: number;
  #deviationNs = 0;
  #isObserved = false;

  /** `believedNs` until one was observed. */
  constructor(believedNs: number) {
    this.#meanNs = believedNs;
  }

  observe(ns: number): void {
    if (this.#isObserved) {
      this.#deviationNs += FOLLOW * (Math.abs(ns - this.#meanNs) - this.#deviationNs);
      this.#meanNs += FOLLOW * (ns - this.#meanNs);
    } else {
      this.#meanNs = ns;
      this.#isObserved = true;
    }
  }

  get isObserved(): boolean {
    return this.#isObserved;
  }

  get meanNs(): number {
    return this.#meanNs;
  }

  /** With headroom for its variance. */
  get highNs(): number {
    return this.#meanNs + DEVIATIONS * this.#deviationNs;
  }
}

/** A duration for people. */
export const milliseconds = (ns: number) => `${Number((ns / 1e6).toPrecision(2))} ms`;
