import type { Crossing, CrossingSchedule, Law } from '@bridgekeeper/bridge';

/** Channels a device may have: far more than any profile's contexts. */
export const MAX_CHANNELS = 64;
/** Doubles of one channel: h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation. */
const CHANNEL_DOUBLES = 3;

/** Memory that every thread of a device sees. */
export interface SharedChannels {
  readonly lock: SharedArrayBuffer;
  readonly states: SharedArrayBuffer;
}

export function createSharedChannels(): SharedChannels {
  return {
    lock: new SharedArrayBuffer(4),
    states: new SharedArrayBuffer(MAX_CHANNELS * CHANNEL_DOUBLES * 8),
  };
}

/** When a thread issues a crossing, and when its stream is ready for it. */
export interface Issue {
  readonly issuedNs: number;
  readonly streamReadyNs: number;
  readonly hostIsFresh: boolean;
}

/**
 * The imposed law's channels, one for each context. Lanes on one context take turns on its channel
 * although they run on different threads, so the state is in shared memory, behind a lock held for
 * the length of one `schedule`.
 */
export class Channels {
  readonly #lock: Int32Array;
  readonly #states: Float64Array;

  constructor(shared: SharedChannels) {
    this.#lock = new Int32Array(shared.lock);
    this.#states = new Float64Array(shared.states);
  }

  /** Schedules a crossing on channel `index` and takes the time it needs there. */
  schedule(index: number, law: Law, crossing: Crossing, issue: Issue): CrossingSchedule {
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0);
    try {
      const at = index * CHANNEL_DOUBLES;
      const schedule = law.schedule(crossing, {
        ...issue,
        channel: {
          h2dFreeAtNs: this.#states[at]!,
          d2hFreeAtNs: this.#states[at + 1]!,
          bytesSinceRotation: this.#states[at + 2]!,
        },
        contexts: this.#busyBeside(index, issue.streamReadyNs) + 1,
      });
      const { h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation } = schedule.channel;
      this.#states.set([h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation], at);
      return schedule;
    } finally {
      Atomics.store(this.#lock, 0, 0);
    }
  }

  /** Other channels that carry something at `nowNs`: they share the bridge. */
  #busyBeside(index: number, nowNs: number): number {
    let busy = 0;
    for (let other = 0; other < MAX_CHANNELS; other++) {
      const at = other * CHANNEL_DOUBLES;
      const freeAtNs = Math.max(this.#states[at]!, this.#states[at + 1]!);
      if (other !== index && freeAtNs > nowNs) busy += 1;
    }
    return busy;
  }
}

/**
 * Blocks this thread until `wakeNs`, as an imposed law demands: it sleeps for most of the time,
 * then spins.
 */
export function blockThreadUntil(nowNs: () => number, wakeNs: number): void {
  const leftNs = wakeNs - nowNs();
  if (leftNs > SPIN_NS) Atomics.wait(SLEEP_CELL, 0, 0, (leftNs - SPIN_NS) / 1e6);
  while (nowNs() < wakeNs);
}

/** A sleeping thread may wake this much too late. */
const SPIN_NS = 150_000;
const SLEEP_CELL = new Int32Array(new SharedArrayBuffer(4));
