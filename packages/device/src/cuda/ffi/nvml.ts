import { DeviceError } from '../../errors.ts';
import { type BoundFunctions, type NativeArgument, openNativeLibrary } from './native.ts';

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
  nvmlDeviceGetName: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetUUID: ['u64', 'pointer', 'u32'],
  nvmlDeviceGetPersistenceMode: ['u64', 'pointer'],
  nvmlDeviceGetMigMode: ['u64', 'pointer', 'pointer'],
  nvmlDeviceGetComputeRunningProcesses_v3: ['u64', 'pointer', 'pointer'],
} as const;
export type NvmlFunction = keyof typeof SIGNATURES;
type Bound = BoundFunctions<typeof SIGNATURES>;

/** Constants of nvml.h. */
export const NVML = {
  SUCCESS: 0,
  NOT_SUPPORTED: 3,
  FUNCTION_NOT_FOUND: 13,
  /** Room for any text: the longest that nvml.h names is 96 bytes. */
  TEXT_BYTES: 96,
} as const;

/** The first word of a versioned structure: NVML_STRUCT_VERSION of nvml.h. */
export function structVersion(sizeBytes: number, version: number): number {
  return sizeBytes | (version << 24);
}

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
  [25, 'argument version mismatch'],
  [27, 'not ready'],
  [28, 'GPU not found'],
  [29, 'invalid state'],
  [999, 'unknown error'],
]);

/** `nvmlInit_v2 returned 9 (driver not loaded)`. */
export function describeStatus(name: NvmlFunction, status: number): string {
  return `${name} returned ${status} (${STATUS_NAMES.get(status) ?? 'no known status'})`;
}

/** An initialised NVML. What a status means is for the caller: many are facts, not failures. */
export class Nvml {
  readonly #functions: Partial<Bound>;

  /**
   * `path` overrides what the system's loader finds. Throws DeviceError: `library-missing` when
   * there is no library, `no-device` when it does not start.
   */
  constructor(path = 'libnvidia-ml.so.1') {
    this.#functions = bindPresent(path);
    const status = this.call('nvmlInit_v2');
    if (status === NVML.SUCCESS) return;
    const what = describeStatus('nvmlInit_v2', status);
    throw new DeviceError('no-device', `${what}: check that nvidia-smi runs here`);
  }

  /** The status; `FUNCTION_NOT_FOUND` also where this library does not export the function. */
  call(name: NvmlFunction, ...args: NativeArgument[]): number {
    return this.#functions[name]?.(...args) ?? NVML.FUNCTION_NOT_FOUND;
  }
}

function bindPresent(path: string): Partial<Bound> {
  const bound: { -readonly [Name in NvmlFunction]?: Bound[Name] } = {};
  try {
    const library = openNativeLibrary(path);
    for (const [name, types] of Object.entries(SIGNATURES)) {
      try {
        Object.assign(bound, library.bind({ [name]: types }));
      } catch {
        // An older driver: the function counts as not found when it is called.
      }
    }
  } catch (cause) {
    throw new DeviceError(
      'library-missing',
      `${path} could not be opened: ${String(cause)}. It comes with the NVIDIA driver; a ` +
        'container gets it with the driver capability "utility"',
      { cause },
    );
  }
  return bound;
}
