import { type CrossingRecord, SHARED_TENANT } from '@bridgekeeper/bridge';
import {
  type Device,
  type DeviceBuffer,
  DeviceError,
  hashTreeScratchBytes,
  type Lane,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import { ModelError } from '../models/errors.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { Chunk, ChunkCursor } from './chunks.ts';
import { CrossingQueue } from './crossings.ts';
import type { LanePool } from './lane-pool.ts';
import type { LoadingPlan } from './loading-plan.ts';
import { type ChunkReads, type ReaderPool, readsInThread, ThreadedReads } from './reads.ts';
import { Staging, type StagingSlot } from './staging.ts';
import type { DigestTable } from './verify.ts';

/** Where the time of a load went, summed over whoever worked; stages overlap. */
export interface StageTimes {
  readonly readNs: number;
  readonly decryptNs: number;
  /** While at least one crossing was under way. */
  readonly crossNs: number;
}

export interface PipelineOptions {
  readonly device: Device;
  readonly checkpoint: Checkpoint;
  readonly lanes: LanePool;
  readonly readers: ReaderPool;
  /** What parts name by index. */
  readonly arenas: readonly DeviceBuffer[];
  readonly stagingBytes: number;
  /** Present: every chunk's hash tree is computed on the device, before anything is used. */
  readonly digests: DigestTable | null;
  readonly onCrossing: (record: CrossingRecord) => void;
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

/** Crossings that wait for each lane at most, so that it never has to ask for the next one. */
const LANE_TURNS = 2;
const INLINE_TURNS = 4;
/** So many of the last chunks can be gone through again, to time each stage alone. */
const KEPT_CHUNKS = 64;

/**
 * Brings chunks of files to where they belong on the device. Each slot of the staging carries one
 * chunk at a time through its three stages: read (by any reading thread), cross (on the lane that
 * the bridge's scheduler gives it), place (on the device, with its hash tree). Slots are
 * independent, so that the stages of different chunks overlap.
 */
export class LoadPipeline {
  readonly #options: PipelineOptions;
  readonly #streams: Stream[] = [];
  #staging: Staging | null = null;
  #reads: { readonly threads: number; readonly reads: ChunkReads } | null = null;
  #crossings: { readonly contexts: number; readonly queue: CrossingQueue } | null = null;
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
   * Makes ready what `plan` needs, and says how long that took; with `isWhole` all of its staging,
   * which else grows while chunks are under way.
   */
  async makeReady(plan: LoadingPlan, isWhole: boolean): Promise<number> {
    const { clock } = this.#options.device;
    const startedNs = clock.nowNs();
    const staging = await this.#prepare(plan);
    if (staging.slots.length === 0) staging.grow();
    while (isWhole && staging.grow() !== null);
    await this.#wakeKernels(staging.slots[0]!);
    return (clock.nowNs() - startedNs) / 1e9;
  }

  /**
   * A kernel's first launch loads it, and may wait for all streams of the context meanwhile: none
   * of them must be waiting for a lane then.
   */
  async #wakeKernels({ device, stream, scratch }: StagingSlot): Promise<void> {
    const bytes = 16;
    const shape = { rows: 1, columns: bytes, columnsFrom: 0, columnsTo: bytes, rowGroups: 1 };
    stream.launch('place', {
      ...{ ...shape, isTransposed: false, from: 'bytes', to: 'bytes', first: 0, count: bytes },
      ...{ input: device, inputOffsetBytes: 0 },
      out: slice(device.buffer, device.offsetBytes + 256, bytes),
    });
    if (scratch !== null) {
      const { leafBytes } = this.#options.digests!;
      const out = slice(device.buffer, device.offsetBytes + 256, 32);
      stream.launch('hash-tree', { input: device, bytes, leafBytes, scratch, out });
    }
    await stream.synchronize();
  }

  /** Loads as `plan` says, until `bytesMax` bytes were dealt out and have all arrived. */
  async run(cursor: ChunkCursor, plan: LoadingPlan, bytesMax: number): Promise<Stretch> {
    const { device } = this.#options;
    await this.#prepare(plan);
    const startedNs = device.clock.nowNs();
    let bytes = 0;
    let isLast = false;
    await this.overSlots(plan, async (slot) => {
      if (bytes >= bytesMax) return false;
      const chunk = cursor.next(plan.chunkBytes);
      if (chunk === null) {
        isLast = true;
        return false;
      }
      bytes += chunk.bytes;
      await this.#carry(chunk, slot, plan);
      return true;
    });
    await this.#placed();
    return { bytes, seconds: (device.clock.nowNs() - startedNs) / 1e9, isLast };
  }

  /** Lets every slot do `next` again and again until it says that nothing is left. */
  async overSlots(plan: LoadingPlan, next: (slot: StagingSlot) => Promise<boolean>): Promise<void> {
    const staging = await this.#prepare(plan);
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
    const working = staging.slots.map(work);
    // Pinning memory takes its time; chunks are under way meanwhile.
    while (!isOver) {
      const slot = staging.grow();
      if (slot === null) break;
      working.push(work(slot));
      await this.#options.device.breathe();
    }
    this.#stagingPeakBytes = Math.max(this.#stagingPeakBytes, staging.hostBytes);
    await Promise.all(working);
    if (failure !== undefined) throw failure.error;
  }

  async #carry(chunk: Chunk, slot: StagingSlot, plan: LoadingPlan): Promise<void> {
    const times = await this.read(chunk, slot, plan);
    this.#readNs += times.readNs;
    this.#decryptNs += times.decryptNs;
    const record = await this.cross(chunk, slot);
    const fromNs = Math.max(record.startedNs, this.#crossedUntilNs);
    this.#crossNs += Math.max(0, record.completedNs - fromNs);
    this.#crossedUntilNs = Math.max(this.#crossedUntilNs, record.completedNs);
    this.place(chunk, slot);
    this.hash(chunk, slot);
    this.#lastChunks.push(chunk);
    if (this.#lastChunks.length > KEPT_CHUNKS) this.#lastChunks.shift();
    this.#options.onChunk(chunk);
  }

  async read(chunk: Chunk, slot: StagingSlot, plan: LoadingPlan) {
    try {
      return await this.#reads!.reads.read(chunk, slot.host, plan.direct);
    } catch (error) {
      if (!(error instanceof ModelError)) throw error;
      throw new ModelError(error.code, `${error.message}${tensorOf(chunk)}`, { cause: error });
    }
  }

  /** The slot's earlier chunk has been placed when this one crosses: both use the slot's stream. */
  async cross(chunk: Chunk, slot: StagingSlot): Promise<CrossingRecord> {
    const { checkpoint, onCrossing } = this.#options;
    const { bytes, file, filePosition } = chunk;
    const what = { direction: 'h2d', purpose: 'weights', tenant: SHARED_TENANT } as const;
    const request = {
      ...what,
      device: slice(slot.device.buffer, slot.device.offsetBytes, bytes),
      host: slot.host,
      hostOffsetBytes: 0,
      stream: slot.stream,
    };
    const make = (lane: Lane) => lane.copy(request);
    try {
      const crossing = { ...what, bytes, memory: slot.host.memory };
      const record = await this.#crossings!.queue.submit(crossing, make);
      onCrossing(record);
      return record;
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      const where = `${checkpoint.files[file]!.name} at ${filePosition}${tensorOf(chunk)}`;
      throw new DeviceError(error.code, `${where} did not cross: ${error.message}`, {
        cause: error,
      });
    }
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

  /** Staging, readers and lanes as `plan` wants them; all work of an earlier plan is done. */
  async #prepare(plan: LoadingPlan): Promise<Staging> {
    const { device, checkpoint, lanes, readers, stagingBytes, digests } = this.#options;
    if (this.#reads?.threads !== plan.readers) {
      await this.#reads?.reads.close();
      const reads =
        plan.readers === 0
          ? readsInThread(checkpoint, device.clock)
          : new ThreadedReads(device, checkpoint, readers.workers(plan.readers));
      this.#reads = { threads: plan.readers, reads };
    }
    if (this.#crossings?.contexts !== plan.contexts) {
      const chosen = await lanes.over(plan.contexts);
      const turns = plan.contexts === 0 ? INLINE_TURNS : LANE_TURNS;
      this.#crossings = { contexts: plan.contexts, queue: new CrossingQueue(chosen, turns) };
    }
    const { chunkBytes, memory } = plan;
    if (this.#staging?.chunkBytes !== chunkBytes || this.#staging.memory !== memory) {
      this.#staging?.free();
      this.#staging = null;
      this.#staging = new Staging({
        device,
        memory,
        stagingBytes,
        chunkBytes,
        scratchBytes:
          digests === null
            ? 0
            : aligned(hashTreeScratchBytes(digests.chunkBytes, digests.leafBytes)),
        streamOf: (index) => this.#streamOf(index),
      });
    }
    return this.#staging;
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

  /** Waits for what is under way, and frees everything but the lanes. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#streams.map((stream) => stream.synchronize()));
    await this.#reads?.reads.close();
    this.#staging?.free();
    this.#staging = null;
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / 256) * 256;
}

function tensorOf({ pieces }: Chunk): string {
  const first = pieces[0];
  return first === undefined ? '' : ` (tensor ${first.part.name})`;
}
