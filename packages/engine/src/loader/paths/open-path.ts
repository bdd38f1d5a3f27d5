import { invariant } from '@bridgekeeper/bridge';
import { type Device, hashTreeScratchBytes, type Stream } from '@bridgekeeper/device';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import type { Traffic } from '../../traffic/traffic.ts';
import { type Readers, ReaderThreads, readsInThread } from '../reading/reads.ts';
import type { LoadingStrategy } from '../strategy/loading-strategy.ts';
import type { ChunkPath } from './chunk-path.ts';
import type { DigestTable } from './digests.ts';
import { LanePath } from './lane-path.ts';
import { READER_SLOTS, ReaderPath, uploadingThreads } from './reader-path.ts';
import { Staging } from './staging.ts';

/** What paths are made of. */
export interface PathParts {
  readonly device: Device;
  readonly checkpoint: Checkpoint;
  readonly traffic: Traffic;
  readonly readers: Readers;
  /** Of the host. */
  readonly stagingBytes: number;
  /** Reads and chunks begin at multiples of this. */
  readonly gridBytes: number;
  /** Present: every chunk's hash tree is computed on the device, before anything is used. */
  readonly digests: DigestTable | null;
  /** The stream of a slot: streams outlive paths. */
  readonly streamOf: (index: number) => Stream;
}

/**
 * What a thread reads and copies at once is so much of a chunk: little enough for caches to hold it
 * until it has crossed.
 */
const UPLOADED_PIECES = 8;
/** What a thread reads of a chunk for a lane: four are there sooner than one would be. */
const READ_PIECES = 4;

/** The path that `strategy` says. Throws DeviceError: no lane could be opened, memory is short. */
export async function openPath(strategy: LoadingStrategy, parts: PathParts): Promise<ChunkPath> {
  return strategy.crossedBy === 'readers'
    ? openReaderPath(strategy, parts)
    : openLanePath(strategy, parts);
}

async function openLanePath(strategy: LoadingStrategy, parts: PathParts): Promise<ChunkPath> {
  const { device, checkpoint, readers, stagingBytes } = parts;
  const { memory, direct } = strategy;
  const route = await parts.traffic.bulkRoute(strategy.contexts);
  const reads =
    strategy.readers === 0
      ? readsInThread(checkpoint, device.clock)
      : new ReaderThreads(
          device,
          checkpoint,
          readers.workers(strategy.readers),
          pieceBytesOf(strategy, parts, READ_PIECES),
        ).startAll();
  try {
    const slotsMax = Math.max(2, Math.floor(stagingBytes / strategy.chunkBytes));
    const staging = stagingOf(strategy, parts, slotsMax);
    return new LanePath({ device, checkpoint, reads, route, staging, memory, direct });
  } catch (error) {
    await reads.close();
    throw error;
  }
}

function openReaderPath(strategy: LoadingStrategy, parts: PathParts): ChunkPath {
  const { device, traffic, checkpoint, readers, stagingBytes } = parts;
  const uploads = traffic.threadUploads();
  invariant(uploads !== null, 'readers cross only where no law is imposed');
  const pieceBytes = pieceBytesOf(strategy, parts, UPLOADED_PIECES);
  const count = uploadingThreads(strategy.readers, pieceBytes, stagingBytes);
  const staging = stagingOf(strategy, parts, count * READER_SLOTS);
  const threads = new ReaderThreads(device, checkpoint, readers.workers(count), pieceBytes);
  return new ReaderPath({ device, uploads, threads, staging, pieceBytes, direct: strategy.direct });
}

function stagingOf({ chunkBytes }: LoadingStrategy, parts: PathParts, slotsMax: number): Staging {
  const { device, digests, streamOf } = parts;
  const hashBytes =
    digests === null ? 0 : hashTreeScratchBytes(digests.chunkBytes, digests.leafBytes);
  const scratchBytes = Math.ceil(hashBytes / 256) * 256;
  return new Staging({ device, slotsMax, chunkBytes, scratchBytes, streamOf });
}

/** About one of `pieces` of a chunk, in whole parts of the files' grid. */
function pieceBytesOf({ chunkBytes }: LoadingStrategy, { gridBytes }: PathParts, pieces: number) {
  return Math.max(1, Math.floor(chunkBytes / pieces / gridBytes)) * gridBytes;
}
