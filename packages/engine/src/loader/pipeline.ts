import { type DeviceBuffer, type Stream, slice } from '@bridgekeeper/device';
import type { ChunkPath } from './paths/chunk-path.ts';
import { openPath, type PathParts } from './paths/open-path.ts';
import type { StagingSlot } from './paths/staging.ts';
import type { LoadingStrategy } from './strategy/loading-strategy.ts';
import type { Chunk, ChunkCursor } from './tensors/chunks.ts';

/** Where the time of a load went, summed over whoever worked; stages overlap. */
export interface StageTimes {
  readonly readNs: number;
  readonly decryptNs: number;
  /** While at least one crossing was under way. */
  readonly crossNs: number;
}

export interface PipelineOptions extends Omit<PathParts, 'streamOf'> {
  /** What parts name by index. */
  readonly arenas: readonly DeviceBuffer[];
  /** Told of every chunk that arrived. */
  readonly onChunk: (chunk: Chunk) => void;
}

/** What a stretch of a load took. */
export interface Stretch {
  readonly bytes: number;
  readonly seconds: number;
  /** Nothing is left to load. */
  readonly isLast: boolean;
}

/** So many of the last chunks can be gone through again, to time each stage alone. */
const KEPT_CHUNKS = 64;

/**
 * Brings chunks of files to where they belong on the device. Each slot of the staging takes one
 * chunk at a time: a path brings it from its file to the slot, and then it is placed, and its hash
 * tree computed, on the device. Slots are independent, so that what happens to different chunks
 * overlaps.
 */
export class LoadPipeline {
  readonly #options: PipelineOptions;
  readonly #streams: Stream[] = [];
  #path: { readonly strategy: LoadingStrategy; readonly path: ChunkPath } | null = null;
  #readNs = 0;
  #decryptNs = 0;
  #crossNs = 0;
  #crossedUntilNs = 0;
  #lastChunks: Chunk[] = [];
  #stagingPeakBytes = 0;

  constructor(options: PipelineOptions) {
    this.#options = options;
  }

  get times(): StageTimes {
    return { readNs: this.#readNs, decryptNs: this.#decryptNs, crossNs: this.#crossNs };
  }

  get stagingPeakBytes(): number {
    return this.#stagingPeakBytes;
  }

  /** The last chunks that were loaded. */
  get lastChunks(): readonly Chunk[] {
    return this.#lastChunks;
  }

  /**
   * Makes ready what `strategy` needs, and says how long that took; with `isWhole` all of its
   * staging, which else grows while chunks are under way.
   */
  async makeReady(strategy: LoadingStrategy, isWhole: boolean): Promise<number> {
    const { device } = this.#options;
    const startedNs = device.clock.nowNs();
    const path = await this.#prepare(strategy);
    if (path.slots.length === 0) path.grow();
    while (isWhole && path.grow() !== null);
    await this.#wakeKernels(path.slots[0]!);
    return (device.clock.nowNs() - startedNs) / 1e9;
  }

  /**
   * Kernels are loaded when they are first launched, which may wait for all streams of the context:
   * none of them must be waiting for a lane then.
   */
  #wakeKernels(slot: StagingSlot): Promise<void> {
    const bytes = 16;
    const shape = { rows: 1, columns: bytes, columnsFrom: 0, columnsTo: bytes, rowGroups: 1 };
    const { device, stream } = slot;
    return this.#options.device.prepare(stream, () => {
      stream.launch('place', {
        ...shape,
        isTransposed: false,
        from: 'bytes',
        to: 'bytes',
        first: 0,
        count: bytes,
        input: device,
        inputOffsetBytes: 0,
        out: slice(device.buffer, device.offsetBytes + 256, bytes),
      });
      if (slot.scratch === null) return;
      const { leafBytes } = this.#options.digests!;
      const out = slice(device.buffer, device.offsetBytes + 256, 32);
      stream.launch('hash-tree', { input: device, bytes, leafBytes, scratch: slot.scratch, out });
    });
  }

  /** Loads as `strategy` says, until `bytesMax` bytes were dealt out and have all arrived. */
  async run(cursor: ChunkCursor, strategy: LoadingStrategy, bytesMax: number): Promise<Stretch> {
    const { device } = this.#options;
    const path = await this.#prepare(strategy);
    const startedNs = device.clock.nowNs();
    let bytes = 0;
    let isLast = false;
    await this.overSlots(strategy, async (slot) => {
      if (bytes >= bytesMax) return false;
      const chunk = cursor.next(strategy.chunkBytes);
      if (chunk === null) {
        isLast = true;
        return false;
      }
      bytes += chunk.bytes;
      await this.#carry(path, chunk, slot);
      return true;
    });
    await this.#placed();
    return { bytes, seconds: (device.clock.nowNs() - startedNs) / 1e9, isLast };
  }

  /** Lets every slot do `next` again and again until it says that nothing is left. */
  async overSlots(
    strategy: LoadingStrategy,
    next: (slot: StagingSlot) => Promise<boolean>,
  ): Promise<void> {
    const path = await this.#prepare(strategy);
    let failure: { readonly error: unknown } | undefined;
    let isOver = false;
    const work = async (slot: StagingSlot) => {
      try {
        while (!isOver && (await next(slot)));
      } catch (error) {
        failure ??= { error };
      }
      isOver = true;
    };
    const working = path.slots.map(work);
    // Pinning memory takes its time; chunks are under way meanwhile.
    try {
      while (!isOver) {
        const slots = path.grow();
        if (slots === null) break;
        working.push(...slots.map(work));
        await this.#options.device.breathe();
      }
    } catch (error) {
      failure ??= { error };
      isOver = true;
    }
    this.#stagingPeakBytes = Math.max(this.#stagingPeakBytes, path.hostBytes);
    await Promise.all(working);
    if (failure !== undefined) throw failure.error;
  }

  async #carry(path: ChunkPath, chunk: Chunk, slot: StagingSlot): Promise<void> {
    const { times, crossings } = await path.bring(chunk, slot);
    this.#readNs += times.readNs;
    this.#decryptNs += times.decryptNs;
    for (const record of crossings) {
      const fromNs = Math.max(record.startedNs, this.#crossedUntilNs);
      this.#crossNs += Math.max(0, record.completedNs - fromNs);
      this.#crossedUntilNs = Math.max(this.#crossedUntilNs, record.completedNs);
    }
    this.place(chunk, slot);
    this.hash(chunk, slot);
    this.#lastChunks.push(chunk);
    if (this.#lastChunks.length > KEPT_CHUNKS) this.#lastChunks.shift();
    this.#options.onChunk(chunk);
  }

  /** The way that chunks come to slots now: `strategy`'s. */
  async path(strategy: LoadingStrategy): Promise<ChunkPath> {
    return this.#prepare(strategy);
  }

  place({ pieces }: Chunk, { device, stream }: StagingSlot): void {
    for (const { part, chunkOffsetBytes, first, count } of pieces) {
      stream.launch('place', {
        ...part.shape,
        input: device,
        inputOffsetBytes: chunkOffsetBytes,
        out: slice(this.#options.arenas[part.arena]!, part.offsetBytes, part.outBytes),
        first,
        count,
      });
    }
  }

  /** Every chunk of the seal that the chunk holds. */
  hash({ file, filePosition, bytes }: Chunk, { device, stream, scratch }: StagingSlot): void {
    const { digests } = this.#options;
    if (digests === null) return;
    for (let done = 0; done < bytes; done += digests.chunkBytes) {
      const length = Math.min(digests.chunkBytes, bytes - done);
      stream.launch('hash-tree', {
        input: slice(device.buffer, device.offsetBytes + done, length),
        bytes: length,
        leafBytes: digests.leafBytes,
        scratch: scratch!,
        out: digests.placeOf(file, filePosition + done),
      });
    }
  }

  /** The path that `strategy` asks for; all work of an earlier strategy is done. */
  async #prepare(strategy: LoadingStrategy): Promise<ChunkPath> {
    if (this.#path !== null && isSamePath(this.#path.strategy, strategy)) return this.#path.path;
    await this.#path?.path.close();
    this.#path = null;
    const streamOf = (index: number) => this.#streamOf(index);
    const path = await openPath(strategy, { ...this.#options, streamOf });
    this.#path = { strategy, path };
    return path;
  }

  #streamOf(index: number): Stream {
    const known = this.#streams[index];
    if (known !== undefined) return known;
    const stream = this.#options.device.createStream(`weights ${index}`);
    this.#streams[index] = stream;
    return stream;
  }

  async #placed(): Promise<void> {
    await Promise.all(this.#streams.map((stream) => stream.synchronize()));
  }

  /** Waits for what is under way, and frees everything but the lanes and threads. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#streams.map((stream) => stream.synchronize()));
    await this.#path?.path.close();
    this.#path = null;
  }
}

function isSamePath(a: LoadingStrategy, b: LoadingStrategy): boolean {
  const keys = ['crossedBy', 'contexts', 'chunkBytes', 'memory', 'readers', 'direct'] as const;
  return keys.every((key) => a[key] === b[key]);
}
