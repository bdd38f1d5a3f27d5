import { invariant } from '@bridgekeeper/bridge';
import { type Device, hashTreeScratchBytes, type Stream } from '@bridgekeeper/device';
import type { Checkpoint } from './checkpoint.ts';
import type { ChunkPath } from './chunk-path.ts';
import { LanePath } from './lane-path.ts';
import type { LanePool } from './lane-pool.ts';
import type { LoadingPlan } from './loading-plan.ts';
import { READER_SLOTS, ReaderPath, uploadingThreads } from './reader-path.ts';
import { type ReaderPool, ReaderThreads, readsInThread } from './reads.ts';
import { Staging } from './staging.ts';
import type { DigestTable } from './verify.ts';

/** What paths are made of. */
export interface PathParts {
  readonly device: Device;
  readonly checkpoint: Checkpoint;
  readonly lanes: LanePool;
  readonly readers: ReaderPool;
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
const PIECES = 8;

/** The path that `plan` says. Throws DeviceError: no lane could be opened, memory is short. */
export async function openPath(plan: LoadingPlan, parts: PathParts): Promise<ChunkPath> {
  return plan.crossedBy === 'readers' ? openReaderPath(plan, parts) : openLanePath(plan, parts);
}

async function openLanePath(plan: LoadingPlan, parts: PathParts): Promise<ChunkPath> {
  const { device, checkpoint, readers, stagingBytes } = parts;
  const { memory, direct } = plan;
  const lanes = await parts.lanes.over(plan.contexts);
  const reads =
    plan.readers === 0
      ? readsInThread(checkpoint, device.clock)
      : new ReaderThreads(device, checkpoint, readers.workers(plan.readers)).startAll();
  try {
    const slotsMax = Math.max(2, Math.floor(stagingBytes / plan.chunkBytes));
    const staging = stagingOf(plan, parts, slotsMax);
    return new LanePath({ device, checkpoint, reads, lanes, staging, memory, direct });
  } catch (error) {
    await reads.close();
    throw error;
  }
}

function openReaderPath(plan: LoadingPlan, parts: PathParts): ChunkPath {
  const { device, checkpoint, readers, stagingBytes, gridBytes } = parts;
  const start = device.uploaderStart();
  invariant(start !== null, 'readers cross only where no law is imposed');
  const pieceBytes = Math.max(1, Math.floor(plan.chunkBytes / PIECES / gridBytes)) * gridBytes;
  const count = uploadingThreads(plan.readers, pieceBytes, stagingBytes);
  const staging = stagingOf(plan, parts, count * READER_SLOTS);
  const threads = new ReaderThreads(device, checkpoint, readers.workers(count));
  return new ReaderPath({ device, start, threads, staging, pieceBytes, direct: plan.direct });
}

function stagingOf({ chunkBytes }: LoadingPlan, parts: PathParts, slotsMax: number): Staging {
  const { device, digests, streamOf } = parts;
  const hashBytes =
    digests === null ? 0 : hashTreeScratchBytes(digests.chunkBytes, digests.leafBytes);
  const scratchBytes = Math.ceil(hashBytes / 256) * 256;
  return new Staging({ device, slotsMax, chunkBytes, scratchBytes, streamOf });
}
