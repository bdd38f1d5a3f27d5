import { invariant } from '@bridgekeeper/bridge';
import {
  type Device,
  type DeviceBuffer,
  type Slice,
  type Stream,
  slice,
} from '@bridgekeeper/device';

/** Room for one chunk on the device, and the stream of what happens to it there. */
export interface StagingSlot {
  readonly index: number;
  readonly device: Slice;
  readonly stream: Stream;
  /** For the hash trees of its chunks, where they are asked for. */
  readonly scratch: Slice | null;
}

export interface StagingOptions {
  readonly device: Device;
  readonly slotsMax: number;
  readonly chunkBytes: number;
  readonly scratchBytes: number;
  /** The stream of slot `index`: streams outlive stagings. */
  readonly streamOf: (index: number) => Stream;
}

/** Bounded memory of the device that chunks pass through. */
export class Staging {
  readonly chunkBytes: number;
  readonly slotsMax: number;
  readonly #options: StagingOptions;
  readonly #ring: DeviceBuffer;
  readonly #scratch: DeviceBuffer | null;
  readonly #slots: StagingSlot[] = [];

  /** Throws DeviceError `out-of-memory`. */
  constructor(options: StagingOptions) {
    const { device, slotsMax, chunkBytes, scratchBytes } = options;
    invariant(chunkBytes % 256 === 0 && scratchBytes % 256 === 0, 'slots lie at device boundaries');
    this.#options = options;
    this.chunkBytes = chunkBytes;
    this.slotsMax = slotsMax;
    this.#ring = device.allocate(slotsMax * chunkBytes, 'weights staging');
    try {
      const bytes = slotsMax * scratchBytes;
      this.#scratch = bytes === 0 ? null : device.allocate(bytes, 'weights staging, hashes');
    } catch (error) {
      device.free(this.#ring);
      throw error;
    }
  }

  /** Those in use by now. */
  get slots(): readonly StagingSlot[] {
    return this.#slots;
  }

  /** A new slot, or null when there are as many as may be. */
  grow(): StagingSlot | null {
    const index = this.#slots.length;
    if (index === this.slotsMax) return null;
    const { chunkBytes, scratchBytes, streamOf } = this.#options;
    const slot: StagingSlot = {
      index,
      device: slice(this.#ring, index * chunkBytes, chunkBytes),
      stream: streamOf(index),
      scratch:
        this.#scratch === null ? null : slice(this.#scratch, index * scratchBytes, scratchBytes),
    };
    this.#slots.push(slot);
    return slot;
  }

  /** All work on the slots must be done. */
  free(): void {
    const { device } = this.#options;
    device.free(this.#ring);
    if (this.#scratch !== null) device.free(this.#scratch);
  }
}
