import type { Clock } from '@bridgekeeper/bridge';
import type { Outcome, RunOutcome } from './outcome.ts';

export interface Load<T> {
  readonly requests: readonly T[];
  /** When each is due, in seconds from the start, ascending. */
  readonly atSeconds: readonly number[];
  /** How many may be open at a time. */
  readonly maxConcurrency: number;
}

/** Sends a request at once and resolves, never rejects, when it is over. */
export type Send<T> = (request: T, arrivedNs: number) => Promise<Outcome>;

/**
 * Sends every request when it is due, or as soon after that as `maxConcurrency` lets it: an open
 * loop, which a slow server does not slow down.
 */
export async function drive<T>(load: Load<T>, clock: Clock, send: Send<T>): Promise<RunOutcome> {
  const { requests, atSeconds, maxConcurrency } = load;
  const gate = new Gate(maxConcurrency);
  const startedNs = clock.nowNs();
  const open: Promise<Outcome>[] = [];
  for (const [index, request] of requests.entries()) {
    const dueNs = startedNs + atSeconds[index]! * 1e9;
    if (clock.nowNs() < dueNs) await clock.sleepUntilNs(dueNs);
    const arrivedNs = clock.nowNs();
    open.push(gate.pass(() => send(request, arrivedNs)));
  }
  const outcomes = await Promise.all(open);
  return { outcomes, durationNs: clock.nowNs() - startedNs };
}

/** Lets so many through at a time, in the order they came. */
class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#free -= 1;
    try {
      return await work();
    } finally {
      // The place goes straight to the next one: none that comes now can take it first.
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
