/** Of a setting in seconds that means none. */
const OFF = 0;
/** Nothing that goes well is quiet for so long but a start, which has its own limits. */
const LEAST_SECONDS = 20;
/** What has been quiet for so many times as long as ever before does not come back. */
const RATIO = 20;

/**
 * Tells an engine that hangs from one that is slow, by how long it has been quiet while it had
 * requests. It counts its own seconds, each of which its owner has lived through: a process that
 * was stopped, or a clock that jumped, is one second and no more.
 */
export class Watchdog {
  readonly #timeoutSeconds: number;
  readonly #learns: boolean;
  #quietSeconds = 0;
  /** The longest that ended by itself; null: none has yet. */
  #longestSeconds: number | null = null;

  /**
   * `timeoutSeconds`: the limit where steps have not shown a shorter one; 0: it never bites.
   * `learns`: whether they may. Where a prompt takes a thousand times as long as a token, as on
   * processors, what was quiet so far says nothing of what comes.
   */
  constructor(timeoutSeconds: number, learns = true) {
    this.#timeoutSeconds = timeoutSeconds;
    this.#learns = learns;
  }

  get limitSeconds(): number {
    if (this.#timeoutSeconds === OFF) return Number.POSITIVE_INFINITY;
    if (!this.#learns || this.#longestSeconds === null) return this.#timeoutSeconds;
    const shown = Math.max(LEAST_SECONDS, RATIO * this.#longestSeconds);
    return Math.min(this.#timeoutSeconds, shown);
  }

  /** The engine has done something. */
  heard(): void {
    this.#longestSeconds = Math.max(this.#longestSeconds ?? 0, this.#quietSeconds);
    this.#quietSeconds = 0;
  }

  /** It has nothing to do. */
  rested(): void {
    this.#quietSeconds = 0;
  }

  /** Another second has gone by. Whether it hangs. */
  tick(): boolean {
    this.#quietSeconds += 1;
    return this.#quietSeconds >= this.limitSeconds;
  }
}
