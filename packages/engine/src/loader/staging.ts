import { type HostMemoryKind, invariant } from '@bridgekeeper/bridge';
import {
  type Device,
  type DeviceBuffer,
  type HostBuffer,
  type Slice,
  type Stream,
  slice,
} from '@bridgekeeper/device';

/** Room for one chunk on either side of the bridge, and the stream of what happens to it. */
export interface StagingSlot {
  readonly host: HostBuffer;
  readonly device: Slice;
  readonly stream: Stream;
  /** For the hash trees of its chunks, where they are asked for. */
  readonly scratch: Slice | null;
}

export interface StagingOptions {
  readonly device: Device;
  readonly memory: HostMemoryKind;
  readonly stagingBytes: number;
  readonly chunkBytes: number;
  readonly scratchBytes: number;
  /** The stream of slot `index`: streams outlive stagings. */
  readonly streamOf: (index: number) => Stream;
}

/**
 * Bounded memory that chunks pass through. Host memory is allocated slot by slot: pinning takes
 * its time, and reading can begin with the first.
 */
export class Staging {
  readonly memory: HostMemoryKind;
  readonly chunkBytes: number;
  readonly slotsMax: number;
  readonly #options: StagingOptions;
  readonly #ring: DeviceBuffer;
  readonly #scratch: DeviceBuffer | null;
  readonly #slots: StagingSlot[] = [];

  constructor(options: StagingOptions) {
    const { device, stagingBytes, chunkBytes, scratchBytes, memory } = options;
    invariant(chunkBytes % 256 === 0 && scratchBytes % 256 === 0, 'slots lie at device boundaries');
    this.#options = options;
    this.memory = memory;
    this.chunkBytes = chunkBytes;
    this.slotsMax = Math.max(2, Math.floor(stagingBytes / chunkBytes));
    this.#ring = device.allocate(this.slotsMax * chunkBytes, 'weights staging');
    try {
      const bytes = this.slotsMax * scratchBytes;
      this.#scratch = bytes === 0 ? null : device.allocate(bytes, 'weights staging, hashes');
    } catch (error) {
      device.free(this.#ring);
      throw error;
    }
  }

  /** Those there are by now. */
  get slots(): readonly StagingSlot[] {
    return this.#slots;
  }

  get hostBytes(): number {
    return this.#slots.length * this.chunkBytes;
  }

  /** A new slot, or null when there are as many as may be. */
  grow(): StagingSlot | null {
    const index = this.#slots.length;
    if (index === this.slotsMax) return null;
    const { device, memory, chunkBytes, scratchBytes, streamOf } = this.#options;
    const slot: StagingSlot = {
      host: device.allocateHost(chunkBytes, memory, `weights staging ${index}`),
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
    for (const { host } of this.#slots) device.freeHost(host);
    device.free(this.#ring);
    if (this.#scratch !== null) device.free(this.#scratch);
  }
}
