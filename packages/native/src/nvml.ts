import { NativeError } from './errors.ts';
import {
  type BoundFunctions,
  type NativeArgument,
  type NativeLibrary,
  OutCell,
  openNativeLibrary,
  type Signatures,
} from './library.ts';
import {
  ENVIRONMENTS,
  KEY_ROTATION,
  MULTI_GPU_MODES,
  NVLE_INFO,
  NVLE_KEY,
  NVLE_READY,
  NVLINK_INFO,
  REMAP_LOCK,
  SETTINGS,
  STATE,
  structOf,
  TEXT_BYTES,
} from './nvml-layout.ts';

/** The part of NVML we use. Each name may be missing: drivers gained them one by one. */
const SIGNATURES = {
  nvmlInit_v2: [],
  nvmlShutdown: [],
  nvmlSystemGetDriverVersion: ['pointer', 'u32'],
  nvmlSystemGetConfComputeSettings: ['pointer'],
  nvmlSystemGetConfComputeState: ['pointer'],
  nvmlSystemGetConfComputeGpusReadyState: ['pointer'],
  nvmlSystemGetConfComputeKeyRotationThresholdInfo: ['pointer'],
  nvmlDeviceGetCount_v2: ['pointer'],
  nvmlDeviceGetHandleByIndex_v2: ['u32', 'pointer'],
  nvmlDeviceGetHandleByPciBusId_v2: ['text', 'pointer'],
  nvmlDeviceGetModuleId: ['u64', 'pointer'],
  nvmlDeviceGetPdi: ['u64', 'pointer'],
  nvmlDeviceGetName: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetUUID: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetVbiosVersion: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetArchitecture: ['u64', 'pointer'],
  nvmlDeviceGetGpuFabricInfoV: ['u64', 'pointer'],
  // Of drivers that let guests key NVLink: bound where they are there, like all of these.
  nvmlDeviceGetNvlinkRemapTableInfo_v1: ['u64', 'pointer'],
  nvmlDeviceLockNvlinkRemapTable_v1: ['u64', 'pointer'],
  nvmlDeviceGetNvLinkInfo: ['u64', 'pointer'],
  nvmlDeviceGetNvlinkNvlePrivateInfo_v1: ['u64', 'pointer'],
  nvmlDeviceSetupNvlinkNvleEncryptionKey_v1: ['u64', 'pointer'],
  nvmlDeviceSetNvlinkNvleReady_v1: ['u64', 'pointer'],
  nvmlDeviceGetPersistenceMode: ['u64', 'pointer'],
  nvmlDeviceGetMigMode: ['u64', 'pointer', 'pointer'],
  nvmlDeviceGetComputeRunningProcesses_v3: ['u64', 'pointer', 'pointer'],
  nvmlDeviceGetConfComputeGpuCertificate: ['u64', 'pointer'],
  nvmlDeviceGetConfComputeGpuAttestationReport: ['u64', 'pointer'],
} as const satisfies Signatures;
export type NvmlFunction = keyof typeof SIGNATURES;
type Bound = BoundFunctions<typeof SIGNATURES>;

/** Those that write a text: of the system, or of a device given its handle. */
export type NvmlText =
  | 'nvmlSystemGetDriverVersion'
  | 'nvmlDeviceGetName'
  | 'nvmlDeviceGetUUID'
  | 'nvmlDeviceGetVbiosVersion';

/** The library, and what of nvmlReturn_t decides what happens next. */
export const NVML = {
  /** As the system's loader finds it. */
  LIBRARY: 'libnvidia-ml.so.1',
  SUCCESS: 0,
  NOT_SUPPORTED: 3,
  FUNCTION_NOT_FOUND: 13,
  ARGUMENT_VERSION_MISMATCH: 25,
} as const;

/** nvmlReturn_t of nvml.h. */
const STATUS_NAMES: ReadonlyMap<number, string> = new Map([
  [1, 'uninitialized'],
  [2, 'invalid argument'],
  [NVML.NOT_SUPPORTED, 'not supported'],
  [4, 'no permission'],
  [6, 'not found'],
  [7, 'insufficient size'],
  [9, 'driver not loaded'],
  [10, 'timeout'],
  [12, 'library not found'],
  [NVML.FUNCTION_NOT_FOUND, 'function not found'],
  [15, 'GPU is lost'],
  [16, 'GPU requires a reset'],
  [17, 'blocked by the operating system'],
  [18, 'driver and library differ in version'],
  [20, 'insufficient memory'],
  [NVML.ARGUMENT_VERSION_MISMATCH, 'argument version mismatch'],
  [27, 'not ready'],
  [28, 'GPU not found'],
  [29, 'invalid state'],
  [999, 'unknown error'],
]);

/** `nvmlInit_v2 returned 9 (driver not loaded)`. */
export function describeStatus(name: NvmlFunction, status: number): string {
  return `${name} returned ${status} (${STATUS_NAMES.get(status) ?? 'no known status'})`;
}

/** Whether a status says that the driver does not have what it was asked for. */
export function isAbsent(status: number): boolean {
  return status === NVML.FUNCTION_NOT_FOUND || status === NVML.NOT_SUPPORTED;
}

/** What locking a GPU's NVLink remap table came to. */
export interface NvmlRemapLock {
  readonly isLocked: boolean;
  /** Locking is switched off on this GPU. */
  readonly isDisabled: boolean;
}

/** One GPU's side of the key of a pair of GPUs, which both must be given. */
export interface NvleKey {
  /** 32 bytes, from which the GPU derives its keys. */
  readonly secret: Uint8Array;
  /** By the remap tables of the two. */
  readonly localAlid: number;
  readonly remoteAlid: number;
  /** As the two GPUs said (`nvlePrivateInfo`). */
  readonly localInfo: Uint8Array;
  readonly remoteInfo: Uint8Array;
}

/** All that a guest needs to key the links between its GPUs by itself. */
const NVLE_CALLS = [
  'nvmlDeviceGetNvlinkRemapTableInfo_v1',
  'nvmlDeviceLockNvlinkRemapTable_v1',
  'nvmlDeviceGetNvlinkNvlePrivateInfo_v1',
  'nvmlDeviceSetupNvlinkNvleEncryptionKey_v1',
  'nvmlDeviceSetNvlinkNvleReady_v1',
] as const satisfies readonly NvmlFunction[];

/** What one of NVML's two calls says about confidential computing. */
export interface NvmlSettings {
  readonly environment: (typeof ENVIRONMENTS)[number] | 'unknown';
  /** 0: off. Protected PCIe leaves it at 0. */
  readonly ccFeature: number;
  readonly devTools: boolean;
  /** null: the call that answered does not say. */
  readonly multiGpuMode: (typeof MULTI_GPU_MODES)[number] | 'unknown' | null;
}

/**
 * An initialised NVML. What a status means is for the caller: many are facts, not failures.
 * Methods named for what they read return it, or else the status, a number.
 */
export class Nvml {
  readonly #library: NativeLibrary;
  readonly #functions: Partial<Bound>;

  /**
   * `path` overrides what the system's loader finds. Throws NativeError: `library-missing` when
   * there is no library, `no-device` when it does not start.
   */
  constructor(path: string = NVML.LIBRARY) {
    this.#library = open(path);
    this.#functions = bindPresent(this.#library);
    const status = this.call('nvmlInit_v2');
    if (status === NVML.SUCCESS) return;
    const what = describeStatus('nvmlInit_v2', status);
    throw new NativeError('no-device', `${what}: check that nvidia-smi runs here`, { status });
  }

  /** The status; `FUNCTION_NOT_FOUND` also where this library does not export the function. */
  call(name: NvmlFunction, ...args: NativeArgument[]): number {
    return this.#functions[name]?.(...args) ?? NVML.FUNCTION_NOT_FOUND;
  }

  /** The same on a pool thread, for what takes seconds. Buffers must live until then. */
  async callOnPool(name: NvmlFunction, ...args: NativeArgument[]): Promise<number> {
    if (this.#functions[name] === undefined) return NVML.FUNCTION_NOT_FOUND;
    return this.#library.bindAsync(name, SIGNATURES[name])(...args);
  }

  text(name: NvmlText, ...handle: bigint[]): string | number {
    const text = Buffer.alloc(TEXT_BYTES);
    const status = this.call(name, ...handle, text, text.length);
    if (status !== NVML.SUCCESS) return status;
    const end = text.indexOf(0);
    return text.toString('utf8', 0, end < 0 ? text.length : end);
  }

  /**
   * Each device's handle, or the status of asking for it, in NVML's order: by PCI bus, whatever
   * CUDA_VISIBLE_DEVICES says.
   */
  handles(): (bigint | number)[] | number {
    const count = new OutCell();
    const status = this.call('nvmlDeviceGetCount_v2', count.bytes);
    if (status !== NVML.SUCCESS) return status;
    return Array.from({ length: count.i32 }, (_, index) => {
      const handle = new OutCell();
      const found = this.call('nvmlDeviceGetHandleByIndex_v2', index, handle.bytes);
      return found === NVML.SUCCESS ? handle.pointer : found;
    });
  }

  /**
   * Locks where a GPU's NVLink addresses lead until it is reset, which only its guest should do,
   * after it saw that the tables of its GPUs are equal. Resolves to what came of it, or the status.
   */
  lockRemapTable(handle: bigint): NvmlRemapLock | number {
    const struct = Buffer.alloc(REMAP_LOCK.bytes);
    const status = this.call('nvmlDeviceLockNvlinkRemapTable_v1', handle, struct);
    if (status !== NVML.SUCCESS) return status;
    return {
      isLocked: struct.readUInt8(REMAP_LOCK.isLocked) === 1,
      isDisabled: struct.readUInt8(REMAP_LOCK.isDisabled) === 1,
    };
  }

  /** Whether this driver lets a guest key NVLink: it exports all the calls that this takes. */
  get takesNvleKeys(): boolean {
    return NVLE_CALLS.every((name) => this.#functions[name] !== undefined);
  }

  /** Whether NVLink of a GPU is encrypted. */
  isNvlinkEncrypted(handle: bigint): boolean | number {
    const struct = structOf(NVLINK_INFO);
    const status = this.call('nvmlDeviceGetNvLinkInfo', handle, struct);
    return status === NVML.SUCCESS ? struct.readUInt32LE(NVLINK_INFO.isEncrypted) !== 0 : status;
  }

  /**
   * What a GPU says to others before they are keyed: opaque, given to `setNvleKey` as it is. Throws
   * NativeError 'call-failed' for a count of bytes that does not fit.
   */
  nvlePrivateInfo(handle: bigint): Buffer | number {
    const struct = structOf(NVLE_INFO);
    const name = 'nvmlDeviceGetNvlinkNvlePrivateInfo_v1';
    const status = this.call(name, handle, struct);
    if (status !== NVML.SUCCESS) return status;
    const count = struct.readUInt32LE(NVLE_INFO.dataBytes);
    const { data, dataBytesMax } = NVLE_INFO;
    if (count <= dataBytesMax) return struct.subarray(data, data + count);
    const message = `${name} counts ${count} bytes, at most ${dataBytesMax} fit`;
    throw new NativeError('call-failed', message);
  }

  /**
   * Gives a GPU its side of the key of a pair; the status. For a tenant's guest alone, after it has
   * locked remap tables that are equal. The secret's copy here is overwritten. Throws NativeError
   * 'bad-argument'.
   */
  setNvleKey(handle: bigint, key: NvleKey): number {
    const { secret, localAlid, remoteAlid, localInfo, remoteInfo } = key;
    const isTooLong = [localInfo, remoteInfo].some(({ length }) => length > NVLE_INFO.dataBytesMax);
    if (secret.length !== NVLE_KEY.secretBytes || isTooLong) {
      const message = `a secret of ${secret.length} bytes, infos of ${localInfo.length} and `;
      const limits = `${remoteInfo.length}: it takes 32, and at most ${NVLE_INFO.dataBytesMax}`;
      throw new NativeError('bad-argument', message + limits);
    }
    const struct = structOf(NVLE_KEY);
    struct.set(secret, NVLE_KEY.secret);
    struct.writeUInt32LE(localAlid, NVLE_KEY.localAlid);
    struct.writeUInt32LE(remoteAlid, NVLE_KEY.remoteAlid);
    for (const [at, info] of [
      [NVLE_KEY.localInfo, localInfo],
      [NVLE_KEY.remoteInfo, remoteInfo],
    ] as const) {
      struct.set(info, at + NVLE_INFO.data);
      struct.writeUInt32LE(info.length, at + NVLE_INFO.dataBytes);
    }
    try {
      return this.call('nvmlDeviceSetupNvlinkNvleEncryptionKey_v1', handle, struct);
    } finally {
      struct.fill(0);
    }
  }

  /** Tells a GPU that all its pairs are keyed, or that they are not any more; the status. */
  setNvleReady(handle: bigint, isReady: boolean): number {
    const struct = structOf(NVLE_READY);
    struct.writeUInt8(isReady ? 1 : 0, NVLE_READY.isReady);
    return this.call('nvmlDeviceSetNvlinkNvleReady_v1', handle, struct);
  }

  /** By nvmlSystemGetConfComputeSettings, which newer drivers have. */
  settings(): NvmlSettings | number {
    const struct = structOf(SETTINGS);
    const status = this.call('nvmlSystemGetConfComputeSettings', struct);
    if (status !== NVML.SUCCESS) return status;
    const mode = struct.readUInt32LE(SETTINGS.multiGpuMode);
    return settingsOf(struct, SETTINGS, MULTI_GPU_MODES[mode] ?? 'unknown');
  }

  /** By nvmlSystemGetConfComputeState, which cannot see protected PCIe. */
  state(): NvmlSettings | number {
    const struct = structOf(STATE);
    const status = this.call('nvmlSystemGetConfComputeState', struct);
    return status === NVML.SUCCESS ? settingsOf(struct, STATE, null) : status;
  }

  /** Whether the GPUs take work; under confidential computing they wait to be set ready. */
  areGpusReady(): boolean | number {
    const ready = new OutCell();
    const status = this.call('nvmlSystemGetConfComputeGpusReadyState', ready.bytes);
    return status === NVML.SUCCESS ? ready.i32 !== 0 : status;
  }

  /** What an attacker may learn before keys rotate, in NVML's own measure. */
  keyRotationThreshold(): bigint | number {
    const struct = structOf(KEY_ROTATION);
    const status = this.call('nvmlSystemGetConfComputeKeyRotationThresholdInfo', struct);
    return status === NVML.SUCCESS ? struct.readBigUInt64LE(KEY_ROTATION.threshold) : status;
  }

  /** The status of shutting down. */
  close(): number {
    return this.call('nvmlShutdown');
  }
}

function settingsOf(
  struct: Buffer,
  at: { readonly environment: number; readonly ccFeature: number; readonly devTools: number },
  multiGpuMode: NvmlSettings['multiGpuMode'],
): NvmlSettings {
  return {
    environment: ENVIRONMENTS[struct.readUInt32LE(at.environment)] ?? 'unknown',
    ccFeature: struct.readUInt32LE(at.ccFeature),
    devTools: struct.readUInt32LE(at.devTools) !== 0,
    multiGpuMode,
  };
}

function open(path: string): NativeLibrary {
  try {
    return openNativeLibrary(path);
  } catch (cause) {
    const message =
      `${path} could not be opened: ${String(cause)}. It comes with the NVIDIA driver; a ` +
      'container gets it with the driver capability "utility"';
    throw new NativeError('library-missing', message, { cause });
  }
}

function bindPresent(library: NativeLibrary): Partial<Bound> {
  const bound: Partial<Bound> = {};
  for (const [name, types] of Object.entries(SIGNATURES)) {
    try {
      Object.assign(bound, library.bind({ [name]: types }));
    } catch {
      // An older driver: the function counts as not found when it is called.
    }
  }
  return bound;
}
