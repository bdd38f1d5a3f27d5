import { addressOf } from '@bridgekeeper/native';

/** Blocks in x, y and z, threads of a block, and shared memory beside what the kernel declares. */
export interface LaunchShape {
  readonly grid: readonly [x: number, y?: number, z?: number];
  readonly threads: number;
  readonly sharedBytes?: number;
  /** Blocks in x that can read each other's shared memory: Hopper's clusters. */
  readonly clusterBlocks?: number;
}

/** CUlaunchAttributeID of cuda.h. */
const CLUSTER_DIMENSION = 4;
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;
/** sizeof(CUlaunchAttribute): an id, padding to 8 bytes, a union of 64. */
const ATTRIBUTE_BYTES = 72;
/** sizeof(CUlaunchConfig): seven counts, padding, stream, attributes, their number, padding. */
const CONFIGURATION_BYTES = 56;

/**
 * The CUlaunchConfig of one stream's launches, filled anew for each. Where the architecture knows
 * it (Hopper on), kernels are launched with programmatic dependence: they may start while the one
 * before them ends, and wait themselves for its results (awaitEarlier of common.cuh).
 */
export class LaunchConfiguration {
  readonly bytes = new DataView(new ArrayBuffer(CONFIGURATION_BYTES));
  /** Kept here for as long as the configuration names its address: dependence, then cluster. */
  readonly #attributes = new DataView(new ArrayBuffer(2 * ATTRIBUTE_BYTES));
  readonly #isDependent: boolean;

  constructor(stream: bigint, isDependent: boolean) {
    this.#isDependent = isDependent;
    this.#attributes.setInt32(0, PROGRAMMATIC_STREAM_SERIALIZATION, true);
    this.#attributes.setInt32(8, 1, true);
    [CLUSTER_DIMENSION, 0, 1, 1, 1].forEach((value, index) => {
      this.#attributes.setInt32(ATTRIBUTE_BYTES + 4 * index, value, true);
    });
    this.bytes.setBigUint64(32, stream, true);
    this.bytes.setBigUint64(40, addressOf(this.#attributes), true);
  }

  /** Throws nothing: a shape that the GPU cannot take is refused by the launch. */
  fill({ grid, threads, sharedBytes = 0, clusterBlocks = 1 }: LaunchShape): DataView {
    const [x, y = 1, z = 1] = grid;
    this.#attributes.setUint32(ATTRIBUTE_BYTES + 8, clusterBlocks, true);
    const attributes = clusterBlocks > 1 ? 2 : 1;
    this.bytes.setUint32(48, this.#isDependent ? attributes : 0, true);
    [x, y, z, threads, 1, 1, sharedBytes].forEach((value, index) => {
      this.bytes.setUint32(4 * index, value, true);
    });
    return this.bytes;
  }
}
