import { DeviceError } from '../errors.ts';
import { Channels, MAX_CHANNELS } from './channels.ts';

/** The launching thread's channel; lanes on a shared context cross on it too. */
export const LAUNCHING_CHANNEL = 0;

/** The contexts of one device: the launching thread's and those of lanes with their own. */
export class Contexts {
  readonly channels = new Channels();
  readonly #max: number;
  readonly #open = new Set([LAUNCHING_CHANNEL]);

  /** `max`: how many may be open at once, the launching thread's included. */
  constructor(max: number) {
    this.#max = Math.min(max, MAX_CHANNELS);
  }

  /** Opens a context; returns its channel, fresh. Throws DeviceError `too-many-contexts`. */
  open(): number {
    const { size } = this.#open;
    if (size >= this.#max) {
      throw new DeviceError(
        'too-many-contexts',
        `${size} contexts are open, and ${this.#max} are allowed: ` +
          'close a lane, or open one on the shared context',
      );
    }
    let channel = LAUNCHING_CHANNEL + 1;
    while (this.#open.has(channel)) channel += 1;
    this.#open.add(channel);
    this.channels.reset(channel);
    return channel;
  }

  /** Nothing, for the launching thread's: that one ends with the device. */
  close(channel: number): void {
    if (channel !== LAUNCHING_CHANNEL) this.#open.delete(channel);
  }
}
