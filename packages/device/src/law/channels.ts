import type { Crossing, CrossingSchedule, Law } from '@bridgekeeper/bridge/threads';

/** Channels, and with them contexts, that a device may have: far more than any profile's. */
export const MAX_CHANNELS = 64;
/** Doubles of one channel: h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation. */
const CHANNEL_DOUBLES = 3;
/**
 * Words before them: the lock of all states, one for each channel's copies, and how many channels
 * may have carried anything. Doubles follow at a multiple of their size.
 */
const LOCK_WORDS = 1 + MAX_CHANNELS + 1;
const USED = 1 + MAX_CHANNELS;
const BYTES = LOCK_WORDS * 4 + MAX_CHANNELS * CHANNEL_DOUBLES * 8;
/** No wait lasts longer than this without looking whether the device is still alive. */
const LOOK_AGAIN_MS = 100;

/**
 * The channels of one device, one for each context, in memory that all its threads share. Lanes on
 * one context take turns on its channel although they run on different threads.
 *
 * Under a law the states alone make them take turns: a lock is held for one `schedule`, which gives
 * a crossing its time after those before it. Without a law there are no times to give: there a
 * device that makes its copies itself holds the channel for the length of each.
 */
export class Channels {
  readonly memory: SharedArrayBuffer;
  readonly #locks: Int32Array;
  readonly #states: Float64Array;

  constructor(memory = new SharedArrayBuffer(BYTES)) {
    this.memory = memory;
    this.#locks = new Int32Array(memory, 0, LOCK_WORDS);
    this.#states = new Float64Array(memory, LOCK_WORDS * 4);
  }

  /** As a new context finds its channel. */
  reset(index: number): void {
    const at = index * CHANNEL_DOUBLES;
    this.#lock();
    this.#states.fill(0, at, at + CHANNEL_DOUBLES);
    this.#unlock();
  }

  /**
   * Schedules a crossing on channel `index` and takes the time it needs there. It shares the bridge
   * with the contexts whose channels carry something when it could begin.
   */
  schedule(
    index: number,
    law: Law,
    crossing: Crossing,
    issuedNs: number,
    streamReadyNs: number,
    hostIsFresh: boolean,
  ): CrossingSchedule {
    const states = this.#states;
    const at = index * CHANNEL_DOUBLES;
    this.#lock();
    try {
      if (index >= this.#locks[USED]!) this.#locks[USED] = index + 1;
      const schedule = law.schedule(crossing, {
        issuedNs,
        streamReadyNs,
        hostIsFresh,
        channel: {
          h2dFreeAtNs: states[at]!,
          d2hFreeAtNs: states[at + 1]!,
          bytesSinceRotation: states[at + 2]!,
        },
        contexts: this.#busyBeside(index, Math.max(issuedNs, streamReadyNs)) + 1,
      });
      const { channel } = schedule;
      states[at] = channel.h2dFreeAtNs;
      states[at + 1] = channel.d2hFreeAtNs;
      states[at + 2] = channel.bytesSinceRotation;
      return schedule;
    } finally {
      this.#unlock();
    }
  }

  /** From here to `unlock` no other thread reads or writes the states. */
  #lock(): void {
    while (Atomics.compareExchange(this.#locks, 0, 0, 1) !== 0);
  }

  #unlock(): void {
    Atomics.store(this.#locks, 0, 0);
  }

  /** Other channels that carry something at `nowNs`. */
  #busyBeside(index: number, nowNs: number): number {
    const states = this.#states;
    const used = this.#locks[USED]!;
    let busy = 0;
    for (let other = 0; other < used; other++) {
      const at = other * CHANNEL_DOUBLES;
      if (other !== index && (states[at]! > nowNs || states[at + 1]! > nowNs)) busy += 1;
    }
    return busy;
  }

  /** Blocks this thread until no other copies on this channel. Throws what `assertAlive` does. */
  acquire(index: number, assertAlive: () => void): void {
    while (Atomics.compareExchange(this.#locks, 1 + index, 0, 1) !== 0) {
      assertAlive();
      Atomics.wait(this.#locks, 1 + index, 1, LOOK_AGAIN_MS);
    }
  }

  release(index: number): void {
    Atomics.store(this.#locks, 1 + index, 0);
    Atomics.notify(this.#locks, 1 + index, 1);
  }
}
