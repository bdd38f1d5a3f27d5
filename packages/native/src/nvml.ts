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
