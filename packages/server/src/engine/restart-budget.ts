/** How often an engine that failed is started again. */
export interface RestartLimits {
  /** Starts within `windowSeconds`; 0: none, the server ends with its engine. */
  readonly restarts: number;
  readonly windowSeconds: number;
}

const FIRST_WAIT_NS = 0.1e9;
const LONGEST_WAIT_NS = 30e9;

/**
 * The starts that may be made, and when: each later one within the window after a longer wait,
 * since what did not help twice may need time. Takes the time as it is told.
 */
export class RestartBudget {
  readonly #limits: RestartLimits;
  #startsNs: number[] = [];

  constructor(limits: RestartLimits) {
    this.#limits = limits;
  }

  /** Starts within the window that ends now. */
  usedAt(nowNs: number): number {
    const sinceNs = nowNs - this.#limits.windowSeconds * 1e9;
    this.#startsNs = this.#startsNs.filter((startNs) => startNs > sinceNs);
    return this.#startsNs.length;
  }

  /** Takes one: how long to wait before it is made; null: there is none left. */
  take(nowNs: number): number | null {
    const used = this.usedAt(nowNs);
    if (used >= this.#limits.restarts) return null;
    this.#startsNs.push(nowNs);
    return Math.min(LONGEST_WAIT_NS, FIRST_WAIT_NS * 4 ** used);
  }
}
