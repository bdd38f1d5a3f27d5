import type { ChannelState } from '@bridgekeeper/bridge';
import type { SharedControl } from './shared-control.ts';

const LOOK_AGAIN_MS = 100;
const STATE_START = 8;
const STATE_WORDS = 3;

/**
 * A context's channel, in memory shared by the lanes that cross on it: a lock and the law's state.
 */
export class Channel {
  readonly memory: SharedArrayBuffer;
  readonly #lock: Int32Array;
  readonly #state: Float64Array;

  constructor(memory = new SharedArrayBuffer(STATE_START + STATE_WORDS * 8)) {
    this.memory = memory;
    this.#lock = new Int32Array(memory, 0, 1);
    this.#state = new Float64Array(memory, STATE_START, STATE_WORDS);
  }

  /**
   * Stands still until no other lane crosses on this channel. Throws DeviceError when the device
   * ends.
   */
  acquire(control: SharedControl): void {
    while (Atomics.compareExchange(this.#lock, 0, 0, 1) !== 0) {
      control.assertAlive();
      Atomics.wait(this.#lock, 0, 1, LOOK_AGAIN_MS);
    }
  }

  release(): void {
    Atomics.store(this.#lock, 0, 0);
    Atomics.notify(this.#lock, 0, 1);
  }

  /** Read and written only while acquired. */
  get state(): ChannelState {
    const [h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation] = this.#state as unknown as [
      number,
      number,
      number,
    ];
    return { h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation };
  }

  set state({ h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation }: ChannelState) {
    this.#state.set([h2dFreeAtNs, d2hFreeAtNs, bytesSinceRotation]);
  }
}
