import type { Device, DeviceBuffer } from '@bridgekeeper/device';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { DIRECT_BYTES } from '../checkpoint/chunk-file.ts';
import type { Traffic } from '../traffic/traffic.ts';
import { DigestTable } from './paths/digests.ts';
import { LoadPipeline, type StageTimes } from './pipeline.ts';
import type { Readers } from './reading/reads.ts';
import { measureStages, type StageRates } from './stage-rates.ts';
import {
  CHUNK_BYTES_MAX,
  LoadingRace,
  type LoadingStrategy,
  STAGED_CHUNKS,
} from './strategy/loading-strategy.ts';
import { ChunkCursor } from './tensors/chunks.ts';
import { elementBytesOf, type StoredPart } from './tensors/parts.ts';

/** One of the GPUs that a load comes to, and what it has of its own. */
export interface LoadWorker {
  readonly device: Device;
  readonly traffic: Traffic;
  readonly readers: Readers;
}

export interface FillOptions {
  readonly checkpoint: Checkpoint;
  /**
   * Each takes the next chunk as soon as it has room for one, whosever it is: what of it is
   * another's is placed in that one's memory, which its kernels reach.
   */
  readonly workers: readonly LoadWorker[];
  readonly strategy: LoadingStrategy;
  /**
   * At a machine's first load, and of one GPU alone: tries other strategies, too. Contexts that may
   * be opened for it.
   */
  readonly race: { readonly contextsMax: number } | null;
  readonly stagingBytes?: number | undefined;
  readonly measureStages?: boolean | undefined;
  readonly onFilled?: (() => void) | undefined;
  readonly onProgress: (bytesDone: number, bytesTotal: number) => void;
}

/** One strategy of a race, and what it reached. */
export interface RaceResult {
  readonly strategy: LoadingStrategy;
  /** What it took to make ready: staging, threads, contexts. */
  readonly readySeconds: number;
  readonly bytesPerSecond: number;
}

export interface FillReport {
  /** The strategy that carried the rest, or all. */
  readonly strategy: LoadingStrategy;
  /** Plans that were tried on parts of this load; empty: none was. */
  readonly race: readonly RaceResult[];
  /** Read from files, gaps included. */
  readonly bytes: number;
  /** Before the first read: contexts, and the staging where it cannot grow meanwhile. */
  readonly readySeconds: number;
  /** From the first read to the last byte in its place. */
  readonly streamSeconds: number;
  readonly times: StageTimes;
  readonly verifiedBytes: number;
  readonly verifySeconds: number;
  readonly stagingPeakBytes: number;
  /** Each stage alone; null: they were not measured. */
  readonly rates: StageRates | null;
  /** The part that each GPU had in it. */
  readonly gpus: readonly GpuFillReport[];
}

export interface GpuFillReport {
  /** That crossed to it. */
  readonly bytes: number;
  readonly readySeconds: number;
  /** Until there was nothing more for it. */
  readonly streamSeconds: number;
  readonly times: StageTimes;
}

/** Enough for a rate: some tens of chunks. */
const RACE_BYTES = 1024 ** 3;
/** Before the rate is taken: a chunk for every thread, which may have to load its code first. */
const WARM_BYTES = RACE_BYTES / 4;
/** A race takes up to seven stretches, and should leave the winner a part that counts. */
const RACE_TOTAL_MIN = 12 * RACE_BYTES;

/**
 * Brings `parts` of a checkpoint to their places in `arenas`. With a seal, resolves only after all
 * of it was verified. Throws ModelError or DeviceError; then nothing in the arenas may be used.
 */
export async function fillArenas(
  parts: readonly StoredPart[],
  arenas: readonly DeviceBuffer[],
  options: FillOptions,
): Promise<FillReport> {
  const { workers, checkpoint, onProgress } = options;
  const { device } = workers[0]!;
  const { seal } = checkpoint;
  const detour = new Detour(device, parts, arenas.length);
  const gridBytes = gridOf(checkpoint);
  const fileBytes = checkpoint.files.map(({ bytes }) => bytes);
  const cursor = new ChunkCursor(detour.parts, { fileBytes, gridBytes });
  const { totalBytes } = cursor;
  let bytesDone = 0;
  const onBytes = (bytes: number) => {
    bytesDone += bytes;
    onProgress(bytesDone, totalBytes);
  };
  const base = onGrid(options.strategy, gridBytes);
  const all = [...arenas, ...detour.buffers];
  const fills = workers.map((worker) => new GpuFill(worker, { ...options, arenas: all }, onBytes));
  try {
    const openedNs = device.clock.nowNs();
    // Together, and before any of them streams: what is allocated later would wait for streams.
    await allSettled(fills.map((fill) => fill.makeReady(base)));
    const startedNs = device.clock.nowNs();
    const [first] = await Promise.all(
      fills.map((fill) => endingAll(cursor, fill.stream(cursor, gridBytes))),
    );
    await detour.finish(arenas);
    const streamedNs = device.clock.nowNs();
    for (const fill of fills) await fill.verify();
    await checkpoint.assertUnchanged();
    const verifiedNs = device.clock.nowNs();
    options.onFilled?.();
    const { strategy, race } = first!;
    return {
      strategy,
      race,
      bytes: totalBytes,
      readySeconds: (startedNs - openedNs) / 1e9,
      streamSeconds: (streamedNs - startedNs) / 1e9,
      times: {
        readNs: sumOf(fills, ({ report }) => report.times.readNs),
        decryptNs: sumOf(fills, ({ report }) => report.times.decryptNs),
        crossNs: sumOf(fills, ({ report }) => report.times.crossNs),
      },
      verifiedBytes: seal === null ? 0 : totalBytes,
      verifySeconds: (verifiedNs - streamedNs) / 1e9,
      stagingPeakBytes: sumOf(fills, ({ stagingPeakBytes }) => stagingPeakBytes),
      rates: options.measureStages === true ? await fills[0]!.measureStages(strategy) : null,
      gpus: fills.map(({ report }) => report),
    };
  } finally {
    await Promise.all(fills.map((fill) => fill.close()));
    detour.free();
  }
}

const sumOf = <T>(all: readonly T[], part: (each: T) => number) =>
  all.reduce((total, each) => total + part(each), 0);

/** When one fails, the others have ended before it is thrown: what they use may be freed then. */
async function allSettled(all: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(all)).find(({ status }) => status === 'rejected');
  if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
}

/** When it fails, nobody is dealt more: the others end soon. */
async function endingAll<T>(cursor: ChunkCursor, part: Promise<T>): Promise<T> {
  try {
    return await part;
  } catch (error) {
    cursor.end();
    throw error;
  }
}

/** One GPU's part in a load: whatever chunks it is dealt. */
class GpuFill {
  readonly #worker: LoadWorker;
  readonly #options: FillOptions;
  readonly #pipeline: LoadPipeline;
  readonly #digests: DigestTable | null;
  #bytes = 0;
  #readySeconds = 0;
  #streamSeconds = 0;

  constructor(
    worker: LoadWorker,
    options: FillOptions & { readonly arenas: readonly DeviceBuffer[] },
    onBytes: (bytes: number) => void,
  ) {
    const { checkpoint, strategy } = options;
    const { chunkBytes } = onGrid(strategy, gridOf(checkpoint));
    const stagingBytes = options.stagingBytes ?? STAGED_CHUNKS * chunkBytes;
    const { seal, files } = checkpoint;
    const names = files.map(({ name }) => name);
    this.#worker = worker;
    this.#options = options;
    this.#digests = seal === null ? null : new DigestTable(worker.device, seal, names);
    const fileBytes = sumOf(files, ({ bytes }) => bytes);
    this.#pipeline = new LoadPipeline({
      ...worker,
      checkpoint,
      arenas: options.arenas,
      gridBytes: gridOf(checkpoint),
      stagingBytes: Math.min(stagingBytes, Math.max(fileBytes, chunkBytes)),
      digests: this.#digests,
      onChunk: ({ bytes }) => {
        this.#bytes += bytes;
        onBytes(bytes);
      },
    });
  }

  get report(): GpuFillReport {
    const { times } = this.#pipeline;
    const [readySeconds, streamSeconds] = [this.#readySeconds, this.#streamSeconds];
    return { bytes: this.#bytes, readySeconds, streamSeconds, times };
  }

  get stagingPeakBytes(): number {
    return this.#pipeline.stagingPeakBytes;
  }

  async makeReady(strategy: LoadingStrategy): Promise<void> {
    const isWhole = mayWaitForLanes(strategy, this.#worker.traffic);
    this.#readySeconds = await this.#pipeline.makeReady(strategy, isWhole);
  }

  async stream(cursor: ChunkCursor, gridBytes: number) {
    const { clock } = this.#worker.device;
    const startedNs = clock.nowNs();
    const streamed = await stream(this.#pipeline, cursor, gridBytes, {
      ...this.#options,
      mayReadersCross: this.#worker.traffic.threadUploads() !== null,
    });
    this.#streamSeconds = (clock.nowNs() - startedNs) / 1e9;
    return streamed;
  }

  async verify(): Promise<void> {
    await this.#digests?.check(this.#worker.traffic);
  }

  measureStages(strategy: LoadingStrategy): Promise<StageRates> {
    return measureStages(this.#pipeline, strategy, this.#worker.device);
  }

  async close(): Promise<void> {
    await this.#pipeline.close();
    this.#digests?.free();
  }
}

/**
 * Whether streams may wait for lanes while chunks cross: for other contexts, for the thread that
 * makes asynchronous copies of an imposed law, or for those that cross to one of several GPUs. No
 * allocation must meet that: it would wait for the streams in turn.
 */
function mayWaitForLanes(
  { crossedBy, contexts, memory }: LoadingStrategy,
  traffic: Traffic,
): boolean {
  return crossedBy === 'lanes' && (traffic.hasBulkThread(contexts) || memory === 'pageable');
}

/** Reads and chunks begin at multiples of this. */
function gridOf({ seal }: Checkpoint): number {
  return seal === null ? DIRECT_BYTES : seal.chunkBytes;
}

/** All by one strategy, or the first part by a race of strategies and the rest by the winner. */
async function stream(
  pipeline: LoadPipeline,
  cursor: ChunkCursor,
  gridBytes: number,
  options: FillOptions & { readonly mayReadersCross: boolean },
): Promise<{ strategy: LoadingStrategy; race: RaceResult[] }> {
  const results: RaceResult[] = [];
  const base = onGrid(options.strategy, gridBytes);
  const isAlone = options.workers.length === 1;
  if (options.race === null || !isAlone || cursor.totalBytes < RACE_TOTAL_MIN) {
    await pipeline.run(cursor, base, Number.POSITIVE_INFINITY);
    return { strategy: base, race: results };
  }
  const { contextsMax } = options.race;
  const { mayReadersCross: readersMayCross } = options;
  const race = new LoadingRace(base, cursor.totalBytes, { contextsMax, readersMayCross });
  for (let strategy = race.next(); strategy !== null; strategy = race.next()) {
    const tried = onGrid(strategy, gridBytes);
    const readySeconds = await pipeline.makeReady(tried, true);
    await pipeline.run(cursor, tried, WARM_BYTES);
    const { bytes, seconds } = await pipeline.run(cursor, tried, RACE_BYTES);
    race.tried(tried, readySeconds, bytes / seconds);
    results.push({ strategy: tried, readySeconds, bytesPerSecond: bytes / seconds });
  }
  await pipeline.run(cursor, race.best, Number.POSITIVE_INFINITY);
  return { strategy: race.best, race: results };
}

function onGrid(strategy: LoadingStrategy, gridBytes: number): LoadingStrategy {
  const chunks = Math.ceil(strategy.chunkBytes / gridBytes);
  return {
    ...strategy,
    chunkBytes: Math.min(chunks * gridBytes, Math.max(CHUNK_BYTES_MAX, gridBytes)),
  };
}

/**
 * Elements that do not lie at multiples of their size may be cut in two by a chunk's end. The few
 * tensors that need more than moving then take a detour: all their bytes first, then the elements.
 */
class Detour {
  readonly parts: readonly StoredPart[];
  readonly buffers: DeviceBuffer[] = [];
  readonly #device: Device;
  readonly #odd: readonly StoredPart[];

  constructor(device: Device, parts: readonly StoredPart[], firstArena: number) {
    this.#device = device;
    const isOdd = (part: StoredPart) => part.filePosition % elementBytesOf(part.shape) !== 0;
    this.#odd = parts.filter(isOdd);
    const asBytes = this.#odd.map((part, i): StoredPart => {
      const { bytes } = part;
      this.buffers.push(device.allocate(Math.ceil(bytes / 256) * 256, `${part.name}, as stored`));
      const sizes = { rows: 1, columns: bytes, columnsFrom: 0, columnsTo: bytes };
      const shape = { ...part.shape, ...sizes, from: 'bytes', to: 'bytes' } as const;
      const plain = { ...shape, rowGroups: 1, isTransposed: false };
      return { ...part, arena: firstArena + i, offsetBytes: 0, outBytes: bytes, shape: plain };
    });
    this.parts = [...parts.filter((part) => !isOdd(part)), ...asBytes];
  }

  async finish(arenas: readonly DeviceBuffer[]): Promise<void> {
    if (this.#odd.length === 0) return;
    const stream = this.#device.createStream('weights, odd tensors');
    for (const [i, part] of this.#odd.entries()) {
      const input = this.buffers[i]!;
      stream.launch('place', {
        ...part.shape,
        input: { buffer: input, offsetBytes: 0, bytes: input.bytes },
        inputOffsetBytes: 0,
        out: {
          buffer: arenas[part.arena]!,
          offsetBytes: part.offsetBytes,
          bytes: part.outBytes,
        },
        first: 0,
        count: part.bytes / elementBytesOf(part.shape),
      });
    }
    await stream.synchronize();
  }

  free(): void {
    for (const buffer of this.buffers) this.#device.free(buffer);
  }
}
