import { NativeError } from './errors.ts';
import { type NativeArgument, type NativeLibrary, OutCell, openNativeLibrary } from './library.ts';

/** nv_fm_types.h: sizes and offsets that a compiler gives its structures. */
export const NVFM = {
  /** As the system's loader finds it. */
  /** Packages of NVIDIA have it under both names, or under one. */
  LIBRARIES: ['libnvfm.so.1', 'libnvfm.so'],
  SUCCESS: 0,
  PARTITIONS_MAX: 64,
  GPUS_MAX: 16,
  connect: {
    bytes: 272,
    version: 0x0200_0110,
    address: 4,
    addressBytes: 256,
    timeoutMs: 260,
    type: 268,
  },
  list: { bytes: 131_852, version: 0x0102_030c, count: 4, partitions: 12 },
  partition: { bytes: 2060, id: 0, isActive: 4, gpuCount: 8, gpus: 12 },
  gpu: { bytes: 128, module: 0, linksAvailable: 116, linksMax: 120 },
  activated: { bytes: 264, version: 0x0100_0108, count: 4, ids: 8 },
} as const;

/** Where Fabric Manager listens. */
export interface NvfmAddress {
  readonly type: 'inet' | 'unix' | 'vsock';
  /** `ip:port`, a path, or `cid:port`. */
  readonly text: string;
}

const ADDRESS_TYPES = { inet: 1, unix: 2, vsock: 3 } as const;
const ALREADY_INITIALISED = -7;

/**
 * NVIDIA's library for Fabric Manager. Calls run on a pool thread and resolve to their status,
 * which is for the caller to judge.
 */
export class Nvfm {
  readonly #library: NativeLibrary;

  /** Throws NativeError 'library-missing' or 'call-failed'. */
  constructor(path?: string) {
    this.#library = openFirst(path === undefined ? NVFM.LIBRARIES : [path]);
    const status = this.#library.bind({ fmLibInit: [] }).fmLibInit();
    if (status === NVFM.SUCCESS || status === ALREADY_INITIALISED) return;
    throw new NativeError('call-failed', `fmLibInit returned ${status}`, { status });
  }

  /** The handle, or the status, a number. Throws NativeError 'bad-argument'. */
  async connect({ type, text }: NvfmAddress, timeoutMs: number): Promise<bigint | number> {
    const { connect } = NVFM;
    const struct = Buffer.alloc(connect.bytes);
    // With its final zero: a longer one would be another address.
    if (Buffer.byteLength(text) >= connect.addressBytes) {
      const message = `Fabric Manager’s address has over ${connect.addressBytes - 1} bytes`;
      throw new NativeError('bad-argument', message);
    }
    struct.writeUInt32LE(connect.version, 0);
    struct.write(text, connect.address);
    struct.writeUInt32LE(timeoutMs, connect.timeoutMs);
    struct.writeUInt32LE(ADDRESS_TYPES[type], connect.type);
    const handle = new OutCell();
    const status = await this.#call('fmConnect', ['pointer', 'pointer'], struct, handle.bytes);
    return status === NVFM.SUCCESS ? handle.pointer : status;
  }

  disconnect(handle: bigint): Promise<number> {
    return this.#call('fmDisconnect', ['u64'], handle);
  }

  /** fmFabricPartitionList_t as the library wrote it, or the status. */
  async partitions(handle: bigint): Promise<Buffer | number> {
    const struct = Buffer.alloc(NVFM.list.bytes);
    struct.writeUInt32LE(NVFM.list.version, 0);
    const name = 'fmGetSupportedFabricPartitions';
    const status = await this.#call(name, ['u64', 'pointer'], handle, struct);
    return status === NVFM.SUCCESS ? struct : status;
  }

  activate(handle: bigint, partition: number): Promise<number> {
    return this.#call('fmActivateFabricPartition', ['u64', 'u32'], handle, partition);
  }

  deactivate(handle: bigint, partition: number): Promise<number> {
    return this.#call('fmDeactivateFabricPartition', ['u64', 'u32'], handle, partition);
  }

  /** Throws NativeError 'bad-argument' for more partitions than the structure holds. */
  setActivated(handle: bigint, partitions: readonly number[]): Promise<number> {
    const { activated, PARTITIONS_MAX } = NVFM;
    if (partitions.length > PARTITIONS_MAX) {
      throw new NativeError('bad-argument', `${partitions.length} partitions, at most 64`);
    }
    const struct = Buffer.alloc(activated.bytes);
    struct.writeUInt32LE(activated.version, 0);
    struct.writeUInt32LE(partitions.length, activated.count);
    for (const [i, id] of partitions.entries()) struct.writeUInt32LE(id, activated.ids + 4 * i);
    return this.#call('fmSetActivatedFabricPartitions', ['u64', 'pointer'], handle, struct);
  }

  async #call(
    name: string,
    types: Parameters<NativeLibrary['bindAsync']>[1],
    ...args: NativeArgument[]
  ): Promise<number> {
    return this.#library.bindAsync(name, types)(...args);
  }
}

/** Throws NativeError 'library-missing'. */
function openFirst(paths: readonly string[]): NativeLibrary {
  const causes: unknown[] = [];
  for (const path of paths) {
    try {
      return openNativeLibrary(path);
    } catch (cause) {
      causes.push(cause);
    }
  }
  const message =
    `${paths.join(' and ')} could not be opened: ${String(causes[0])}. It comes with Fabric ` +
    'Manager’s development package: install it in the version of Fabric Manager';
  throw new NativeError('library-missing', message, { cause: causes[0] });
}
