import type { CrossingRecord } from '@bridgekeeper/bridge';
import type { Device, HostBuffer } from '@bridgekeeper/device';
import type { ChunkTimes } from '../../checkpoint/chunk-file.ts';
import type { ThreadUploads } from '../../traffic/traffic.ts';
import type { UploadStages } from '../reading/read-protocol.ts';
import type { ReaderThreads } from '../reading/reads.ts';
import type { Chunk } from '../tensors/chunks.ts';
import type { Brought, ChunkPath } from './chunk-path.ts';
import type { Staging, StagingSlot } from './staging.ts';

export interface ReaderPathOptions {
  readonly device: Device;
  readonly uploads: ThreadUploads;
  readonly threads: ReaderThreads;
  /** As many slots as threads, or twice as many. */
  readonly staging: Staging;
  /** What a thread reads and copies at once. */
  readonly pieceBytes: number;
  readonly direct: boolean;
}

/** A thread reads to one while the other's bytes cross. */
const BUFFERS = 2;
/** Chunks that each thread is given at once, so that it never has to ask for the next one. */
export const READER_SLOTS = 2;

/** How many threads `stagingBytes` of host memory are enough for. */
export function uploadingThreads(readers: number, pieceBytes: number, stagingBytes: number) {
  return Math.max(1, Math.min(readers, Math.floor(stagingBytes / (BUFFERS * pieceBytes))));
}

/**
 * Each reading thread copies up what it read by itself, in pieces small enough that the GPU takes
 * them out of the processor's caches: with no law in the way, memory is what loading is limited by,
 * and bytes that are written and read again through it cost three times their number.
 */
export class ReaderPath implements ChunkPath {
  readonly #options: ReaderPathOptions;
  readonly #hosts: HostBuffer[] = [];
  #threads = 0;

  constructor(options: ReaderPathOptions) {
    this.#options = options;
  }

  get slots(): readonly StagingSlot[] {
    return this.#options.staging.slots;
  }

  get hostBytes(): number {
    return this.#hosts.length * this.#options.pieceBytes;
  }

  /** Thread by thread: pinning takes its time, and the first can begin at once. */
  grow(): readonly StagingSlot[] | null {
    const { device, threads, staging, pieceBytes, uploads } = this.#options;
    if (this.#threads === threads.count) return null;
    const thread = this.#threads++;
    const buffers = Array.from({ length: BUFFERS }, (_, i) => {
      const host = device.allocateHost(pieceBytes, 'pinned', `reader ${thread}, buffer ${i}`);
      this.#hosts.push(host);
      return device.hostHandle(host);
    });
    threads.start(thread, READER_SLOTS, { start: uploads.start, buffers });
    return Array.from({ length: READER_SLOTS }, () => staging.grow()!);
  }

  bring(chunk: Chunk, slot: StagingSlot): Promise<Brought> {
    return this.#order(chunk, slot, 'both');
  }

  async read(chunk: Chunk, slot: StagingSlot): Promise<ChunkTimes> {
    return (await this.#order(chunk, slot, 'read')).times;
  }

  async cross(chunk: Chunk, slot: StagingSlot): Promise<readonly CrossingRecord[]> {
    return (await this.#order(chunk, slot, 'cross')).crossings;
  }

  async #order(chunk: Chunk, slot: StagingSlot, stages: UploadStages): Promise<Brought> {
    const { uploads, threads, direct } = this.#options;
    // The slot's earlier chunk is placed before this one overwrites it.
    const target = await uploads.target(slot.device, slot.stream);
    const { times, copies, thread } = await threads.upload(chunk, target, direct, stages);
    return { times, crossings: uploads.record(thread, 'weights', copies) };
  }

  async close(): Promise<void> {
    await this.#options.threads.close();
    for (const host of this.#hosts) this.#options.device.freeHost(host);
    this.#options.staging.free();
  }
}
