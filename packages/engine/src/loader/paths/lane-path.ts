import type { CrossingRecord, HostMemoryKind } from '@bridgekeeper/bridge';
import { type Device, DeviceError, type HostBuffer, slice } from '@bridgekeeper/device';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import type { ChunkTimes } from '../../checkpoint/chunk-file.ts';
import type { Route } from '../../traffic/route.ts';
import type { ChunkReads } from '../reading/reads.ts';
import { type Chunk, originOf } from '../tensors/chunks.ts';
import { type Brought, type ChunkPath, WEIGHTS } from './chunk-path.ts';
import type { Staging, StagingSlot } from './staging.ts';

export interface LanePathOptions {
  readonly device: Device;
  readonly checkpoint: Checkpoint;
  readonly reads: ChunkReads;
  readonly route: Route;
  readonly staging: Staging;
  readonly memory: HostMemoryKind;
  readonly direct: boolean;
}

/**
 * Any thread reads a chunk to the slot's own host memory, and then the whole of it crosses on the
 * route: few large crossings, one law for all of them.
 */
export class LanePath implements ChunkPath {
  readonly #options: LanePathOptions;
  /** By slot. */
  readonly #hosts: HostBuffer[] = [];

  constructor(options: LanePathOptions) {
    this.#options = options;
  }

  get slots(): readonly StagingSlot[] {
    return this.#options.staging.slots;
  }

  get hostBytes(): number {
    return this.#hosts.length * this.#options.staging.chunkBytes;
  }

  /** Slot by slot: pinning takes its time, and reading can begin with the first. */
  grow(): readonly StagingSlot[] | null {
    const { device, staging, memory } = this.#options;
    const index = this.#hosts.length;
    if (index === staging.slotsMax) return null;
    const label = `weights staging ${index}`;
    this.#hosts.push(device.allocateHost(staging.chunkBytes, memory, label));
    return [staging.grow()!];
  }

  async bring(chunk: Chunk, slot: StagingSlot): Promise<Brought> {
    const times = await this.read(chunk, slot);
    return { times, crossings: await this.cross(chunk, slot) };
  }

  read(chunk: Chunk, slot: StagingSlot): Promise<ChunkTimes> {
    const { reads, direct } = this.#options;
    return reads.read(chunk, this.#hosts[slot.index]!, direct);
  }

  /** The slot's earlier chunk has been placed when this one crosses: both use the slot's stream. */
  async cross(chunk: Chunk, slot: StagingSlot): Promise<readonly CrossingRecord[]> {
    const { checkpoint, route } = this.#options;
    const { bytes, file, filePosition } = chunk;
    const request = {
      ...WEIGHTS,
      device: slice(slot.device.buffer, slot.device.offsetBytes, bytes),
      host: this.#hosts[slot.index]!,
      hostOffsetBytes: 0,
      stream: slot.stream,
    };
    try {
      return await route.cross(request);
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      const where = `${checkpoint.files[file]!.name} at ${filePosition}${originOf(chunk)}`;
      throw new DeviceError(error.code, `${where} did not cross: ${error.message}`, {
        cause: error,
      });
    }
  }

  async close(): Promise<void> {
    await this.#options.reads.close();
    for (const host of this.#hosts) this.#options.device.freeHost(host);
    this.#options.staging.free();
  }
}
