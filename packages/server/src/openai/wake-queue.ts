import type { Clock } from '@bridgekeeper/bridge';

/** Shows an answer to a client as its tokens come. */
export interface TokenListener {
  /** Called at most once a round, after events came for any choice. */
  wake(): void;
}

/** No round waits longer than this for the one before it to be made up for. */
const MAX_REST_NS = 4e6;

/**
 * Gathers the answers that have news and wakes each once a round. A round runs as soon as the
 * turn's events are all in, but not before the loop has rested from the last one for as long as
 * that took. So while writing is a small part of the time nothing waits, and when events come
 * faster than they can be written one by one, the tokens of several steps share a write, at the
 * price of some milliseconds.
 */
export class WakeQueue {
  readonly #clock: Clock;
  #waiting = new Set<TokenListener>();
  #restUntilNs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(listener: TokenListener): void {
    if (this.#waiting.size === 0) {
      if (this.#clock.nowNs() < this.#restUntilNs) {
        void this.#clock.sleepUntilNs(this.#restUntilNs).then(this.#run);
      } else {
        setImmediate(this.#run);
      }
    }
    this.#waiting.add(listener);
  }

  readonly #run = (): void => {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    const startedNs = this.#clock.nowNs();
    for (const listener of waiting) listener.wake();
    // Node writes at the end of the turn what was given to it in the turn: that is most of a
    // round's work.
    process.nextTick(() => {
      const endedNs = this.#clock.nowNs();
      this.#restUntilNs = endedNs + Math.min(endedNs - startedNs, MAX_REST_NS);
    });
  };
}
