import { type CrossingRecord, SHARED_TENANT } from '@bridgekeeper/bridge';
import type { ChunkTimes } from '../../checkpoint/chunk-file.ts';
import type { Chunk } from '../tensors/chunks.ts';
import type { StagingSlot } from './staging.ts';

/** How a chunk came to the device. */
export interface Brought {
  readonly times: ChunkTimes;
  readonly crossings: readonly CrossingRecord[];
}

/**
 * A way for chunks to come from files to slots on the device. It owns the host memory between. What
 * it throws (ModelError, DeviceError) names the file and the position.
 */
export interface ChunkPath {
  /** That crossings leave from. */
  readonly hostBytes: number;
  readonly slots: readonly StagingSlot[];
  /** More slots, or null when there are as many as may be. Takes its time: memory is pinned. */
  grow(): readonly StagingSlot[] | null;
  /** Resolves when the chunk's bytes are in the slot, for the slot's stream to use. */
  bring(chunk: Chunk, slot: StagingSlot): Promise<Brought>;
  /** The first half of it alone, to be timed. */
  read(chunk: Chunk, slot: StagingSlot): Promise<ChunkTimes>;
  /** The second half alone: whatever is in host memory crosses. */
  cross(chunk: Chunk, slot: StagingSlot): Promise<readonly CrossingRecord[]>;
  /** All that it was given must be done. */
  close(): Promise<void>;
}

/** What crossings of weights are. */
export const WEIGHTS = { direction: 'h2d', purpose: 'weights', tenant: SHARED_TENANT } as const;
