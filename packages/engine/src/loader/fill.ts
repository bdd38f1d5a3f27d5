import type { Device, DeviceBuffer } from '@bridgekeeper/device';
import type { Checkpoint } from '../checkpoint/checkpoint.ts';
import { DIRECT_BYTES } from '../checkpoint/chunk-file.ts';
import type { Traffic } from '../traffic/traffic.ts';
import { DigestTable } from './paths/digests.ts';
import { LoadPipeline, type StageTimes } from './pipeline.ts';
import type { ReaderPool } from './reading/reads.ts';
import { measureStages, type StageRates } from './stage-rates.ts';
import {
  CHUNK_BYTES_MAX,
  LoadingRace,
  type LoadingStrategy,
  STAGING_BYTES,
} from './strategy/loading-strategy.ts';
import { ChunkCursor } from './tensors/chunks.ts';
import { elementBytesOf, type StoredPart } from './tensors/parts.ts';

export interface FillOptions {
  readonly device: Device;
  readonly checkpoint: Checkpoint;
  readonly traffic: Traffic;
  readonly readers: ReaderPool;
  readonly strategy: LoadingStrategy;
  /** At a machine's first load: tries other strategies, too. Contexts that may be opened for it. */
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
  const { device, checkpoint, onProgress } = options;
  const { seal } = checkpoint;
  const detour = new Detour(device, parts, arenas.length);
  const gridBytes = seal === null ? DIRECT_BYTES : seal.chunkBytes;
  const fileBytes = checkpoint.files.map(({ bytes }) => bytes);
  const cursor = new ChunkCursor(detour.parts, { fileBytes, gridBytes });
  const { totalBytes } = cursor;
  const digests =
    seal === null
      ? null
      : new DigestTable(
          device,
          seal,
          checkpoint.files.map(({ name }) => name),
        );
  let bytesDone = 0;
  const pipeline = new LoadPipeline({
    ...options,
    arenas: [...arenas, ...detour.buffers],
    gridBytes,
    stagingBytes: Math.min(
      options.stagingBytes ?? STAGING_BYTES,
      Math.max(totalBytes, options.strategy.chunkBytes),
    ),
    digests,
    onChunk: ({ bytes }) => {
      bytesDone += bytes;
      onProgress(bytesDone, totalBytes);
    },
  });
  try {
    const base = onGrid(options.strategy, gridBytes);
    const readySeconds = await pipeline.makeReady(base, mayWaitForLanes(base));
    const startedNs = device.clock.nowNs();
    const { strategy, race } = await stream(pipeline, cursor, gridBytes, options);
    await detour.finish(arenas);
    const streamedNs = device.clock.nowNs();
    await digests?.check(options.traffic);
    await checkpoint.assertUnchanged();
    const verifiedNs = device.clock.nowNs();
    options.onFilled?.();
    return {
      strategy,
      race,
      bytes: totalBytes,
      readySeconds,
      streamSeconds: (streamedNs - startedNs) / 1e9,
      times: pipeline.times,
      verifiedBytes: digests === null ? 0 : totalBytes,
      verifySeconds: (verifiedNs - streamedNs) / 1e9,
      stagingPeakBytes: pipeline.stagingPeakBytes,
      rates:
        options.measureStages === true ? await measureStages(pipeline, strategy, device) : null,
    };
  } finally {
    await pipeline.close();
    digests?.free();
    detour.free();
  }
}

/**
 * Whether streams may wait for lanes while chunks cross: for other contexts, or for the thread that
 * makes asynchronous copies of an imposed law. No allocation must meet that: it would wait for the
 * streams in turn.
 */
function mayWaitForLanes({ crossedBy, contexts, memory }: LoadingStrategy): boolean {
  return crossedBy === 'lanes' && (contexts > 0 || memory === 'pageable');
}

/** All by one strategy, or the first part by a race of strategies and the rest by the winner. */
async function stream(
  pipeline: LoadPipeline,
  cursor: ChunkCursor,
  gridBytes: number,
  options: FillOptions,
): Promise<{ strategy: LoadingStrategy; race: RaceResult[] }> {
  const results: RaceResult[] = [];
  const base = onGrid(options.strategy, gridBytes);
  if (options.race === null || cursor.totalBytes < RACE_TOTAL_MIN) {
    await pipeline.run(cursor, base, Number.POSITIVE_INFINITY);
    return { strategy: base, race: results };
  }
  const { contextsMax } = options.race;
  const readersMayCross = options.traffic.threadUploads() !== null;
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
