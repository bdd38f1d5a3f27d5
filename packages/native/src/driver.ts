import { asItIs, NativeError, type NativeErrorCode, type Translate } from './errors.ts';
import {
  type BoundFunctions,
  type NativeArgument,
  type NativeLibrary,
  type NativeType,
  OutCell,
  openNativeLibrary,
  readNativeText,
  type Signatures,
} from './library.ts';

/**
 * The driver API as we use it: names with the ABI suffix that libcuda exports, and their
 * parameters.
 */
export const DRIVER_SIGNATURES = {
  cuInit: ['u32'],
  cuDriverGetVersion: ['pointer'],
  cuDeviceGetCount: ['pointer'],
  cuDeviceGet: ['pointer', 'i32'],
  cuDeviceGetName: ['pointer', 'i32', 'i32'],
  cuDeviceGetUuid: ['pointer', 'i32'],
  cuDeviceGetAttribute: ['pointer', 'i32', 'i32'],
  cuDeviceCanAccessPeer: ['pointer', 'i32', 'i32'],
  cuDevicePrimaryCtxRetain: ['pointer', 'i32'],
  cuDevicePrimaryCtxRelease_v2: ['i32'],
  cuCtxCreate_v2: ['pointer', 'u32', 'i32'],
  cuCtxDestroy_v2: ['u64'],
  cuCtxSetCurrent: ['u64'],
  cuCtxEnablePeerAccess: ['u64', 'u32'],
  cuCtxSynchronize: [],
  cuCtxGetStreamPriorityRange: ['pointer', 'pointer'],
  cuMemGetInfo_v2: ['pointer', 'pointer'],
  cuMemAlloc_v2: ['pointer', 'u64'],
  cuMemFree_v2: ['u64'],
  cuMemsetD8Async: ['u64', 'u32', 'u64', 'u64'],
  cuMemHostAlloc: ['pointer', 'u64', 'u32'],
  cuMemFreeHost: ['u64'],
  cuMemHostRegister_v2: ['u64', 'u64', 'u32'],
  cuMemHostGetDevicePointer_v2: ['pointer', 'u64', 'u32'],
  cuMemcpyHtoDAsync_v2: ['u64', 'u64', 'u64', 'u64'],
  cuMemcpyDtoHAsync_v2: ['u64', 'u64', 'u64', 'u64'],
  cuMemcpyDtoDAsync_v2: ['u64', 'u64', 'u64', 'u64'],
  cuMemcpyPeerAsync: ['u64', 'u64', 'u64', 'u64', 'u64', 'u64'],
  cuStreamCreateWithPriority: ['pointer', 'u32', 'i32'],
  cuStreamDestroy_v2: ['u64'],
  cuStreamSynchronize: ['u64'],
  cuStreamQuery: ['u64'],
  cuStreamWaitEvent: ['u64', 'u64', 'u32'],
  cuStreamWaitValue32_v2: ['u64', 'u64', 'u32', 'u32'],
  cuStreamWriteValue32_v2: ['u64', 'u64', 'u32', 'u32'],
  cuStreamBeginCapture_v2: ['u64', 'i32'],
  cuStreamEndCapture: ['u64', 'pointer'],
  cuThreadExchangeStreamCaptureMode: ['pointer'],
  cuEventCreate: ['pointer', 'u32'],
  cuEventDestroy_v2: ['u64'],
  cuEventRecord: ['u64', 'u64'],
  cuEventQuery: ['u64'],
  cuEventSynchronize: ['u64'],
  cuEventElapsedTime: ['pointer', 'u64', 'u64'],
  cuGraphInstantiateWithFlags: ['pointer', 'u64', 'u64'],
  cuGraphLaunch: ['u64', 'u64'],
  cuGraphDestroy: ['u64'],
  cuGraphExecDestroy: ['u64'],
  cuModuleLoadData: ['pointer', 'pointer'],
  cuModuleUnload: ['u64'],
  cuModuleGetFunction: ['pointer', 'u64', 'text'],
  cuFuncSetAttribute: ['u64', 'i32', 'i32'],
  cuLaunchKernelEx: ['pointer', 'u64', 'pointer', 'pointer'],
  cuGetErrorName: ['i32', 'pointer'],
  cuGetErrorString: ['i32', 'pointer'],
} as const satisfies Signatures;
export type DriverFunction = keyof typeof DRIVER_SIGNATURES;

/** Constants of cuda.h. */
export const CUDA = {
  SUCCESS: 0,
  ERROR_NOT_READY: 600,
  ERROR_PEER_ACCESS_ALREADY_ENABLED: 704,
  STREAM_NON_BLOCKING: 1,
  EVENT_DISABLE_TIMING: 2,
  CAPTURE_THREAD_LOCAL: 1,
  CAPTURE_RELAXED: 2,
  HOST_ALLOC_PORTABLE: 1,
  WAIT_VALUE_GEQ: 0,
  ATTRIBUTE_MULTIPROCESSORS: 16,
  ATTRIBUTE_MAJOR: 75,
  ATTRIBUTE_MINOR: 76,
  ATTRIBUTE_SHARED_BYTES_OF_BLOCK: 97,
  FUNCTION_MAX_DYNAMIC_SHARED: 8,
  FUNCTION_SHARED_CARVEOUT: 9,
} as const;

const ERROR_CODES: ReadonlyMap<number, NativeErrorCode> = new Map([
  [1, 'bad-argument'],
  [2, 'out-of-memory'],
  [34, 'no-device'],
  [46, 'no-device'],
  [100, 'no-device'],
  [101, 'no-device'],
  [801, 'unsupported'],
]);
const ADVICE: ReadonlyMap<number, string> = new Map([
  [34, 'this is the stub libcuda of a toolkit: take its folder out of LD_LIBRARY_PATH'],
  [100, 'check that nvidia-smi lists a GPU here'],
  [
    802,
    'under confidential computing the GPU must be set ready: `nvidia-smi conf-compute -srs 1`; ' +
      'on NVSwitch machines Fabric Manager must run',
  ],
  [803, 'the kernel driver and libcuda differ in version: reinstall the driver or reboot'],
]);

type DriverFunctions = BoundFunctions<typeof DRIVER_SIGNATURES>;

/** As the system's loader finds it. */
export const DRIVER_LIBRARY = 'libcuda.so.1';

/** What a driver of this thread was last entered with. */
let entered: bigint | null = null;

/**
 * The CUDA driver, every status checked. Contexts are current per thread: each thread opens its
 * own.
 */
export class Driver {
  readonly #functions: { -readonly [Name in DriverFunction]: DriverFunctions[Name] };
  readonly #library: NativeLibrary;
  readonly #translate: Translate;
  #context: bigint | null = null;

  /**
   * Opens and initialises the driver. `path` overrides what the system's loader finds. Throws, as
   * all methods do, what `translate` makes of a NativeError: `library-missing`, or what the call
   * to initialise failed with.
   */
  constructor(path = DRIVER_LIBRARY, translate = asItIs) {
    this.#translate = translate;
    this.#library = this.#open(path);
    try {
      this.#functions = this.#library.bind(DRIVER_SIGNATURES);
    } catch (cause) {
      const message =
        `${path} lacks part of the CUDA driver API: ${String(cause)}. ` +
        'Install NVIDIA driver 525 or newer';
      throw translate(new NativeError('library-missing', message, { cause }));
    }
    // Read by cuInit. With a hardware queue for each stream, none is blocked behind another's wait.
    process.env.CUDA_DEVICE_MAX_CONNECTIONS ??= '32';
    this.call('cuInit', 0);
  }

  #open(path: string): NativeLibrary {
    try {
      return openNativeLibrary(path);
    } catch (cause) {
      const message =
        `${path} could not be opened: ${String(cause)}. It comes with the NVIDIA driver: ` +
        'install the driver, or pass the host driver into this container';
      throw this.#translate(new NativeError('library-missing', message, { cause }));
    }
  }

  /**
   * Makes a context current, now and before every later call of this driver, where another driver
   * of this thread was entered meanwhile: one thread may so serve several GPUs.
   */
  enter(context: bigint): void {
    this.#context = context;
    // One that was given back may have had the same address.
    this.#setCurrent(context);
  }

  /** For calls of other libraries, which act on the current context. */
  makeCurrent(): void {
    if (this.#context !== null && this.#context !== entered) this.#setCurrent(this.#context);
  }

  #setCurrent(context: bigint): void {
    const status = this.#functions.cuCtxSetCurrent(context);
    if (status !== CUDA.SUCCESS) throw this.#errorOf('cuCtxSetCurrent', status);
    entered = context;
  }

  /** From now on calls of a function throw what `refusal` makes, and do not reach the driver. */
  refuse(name: DriverFunction, refusal: () => Error): void {
    this.#functions[name] = () => {
      throw refusal();
    };
  }

  /** Calls a function and throws unless it succeeds. */
  call(name: DriverFunction, ...args: NativeArgument[]): void {
    this.makeCurrent();
    const status = this.#functions[name](...args);
    if (status !== CUDA.SUCCESS) throw this.#errorOf(name, status);
  }

  /** Lets the current context reach the memory of another, which it may reach already. */
  enablePeerAccess(other: bigint): void {
    this.makeCurrent();
    const status = this.#functions.cuCtxEnablePeerAccess(other, 0);
    if (status === CUDA.SUCCESS || status === CUDA.ERROR_PEER_ACCESS_ALREADY_ENABLED) return;
    throw this.#errorOf('cuCtxEnablePeerAccess', status);
  }

  /** A checked function that not every driver exports; null where this one does not. */
  optional(
    name: string,
    types: readonly NativeType[],
  ): ((...args: NativeArgument[]) => void) | null {
    let bound: BoundFunctions<Signatures>;
    try {
      bound = this.#library.bind({ [name]: types });
    } catch {
      return null;
    }
    return (...args) => {
      const status = bound[name]!(...args);
      if (status !== CUDA.SUCCESS) throw this.#errorOf(name, status);
    };
  }

  /** False while the event's work is not done; throws when it failed. */
  isEventDone(event: bigint): boolean {
    this.makeCurrent();
    const status = this.#functions.cuEventQuery(event);
    if (status === CUDA.ERROR_NOT_READY) return false;
    if (status !== CUDA.SUCCESS) throw this.#errorOf('cuEventQuery', status);
    return true;
  }

  /** False while work of the stream is not done; throws when it failed. */
  isStreamIdle(stream: bigint): boolean {
    this.makeCurrent();
    const status = this.#functions.cuStreamQuery(stream);
    if (status === CUDA.ERROR_NOT_READY) return false;
    if (status !== CUDA.SUCCESS) throw this.#errorOf('cuStreamQuery', status);
    return true;
  }

  /** Calls a function that writes one result through its first parameter. */
  read(name: DriverFunction, ...args: NativeArgument[]): OutCell {
    const cell = new OutCell();
    this.call(name, cell.bytes, ...args);
    return cell;
  }

  /**
   * Calls for the sake of release: on a context that already failed there is nothing left to undo.
   */
  release(name: DriverFunction, ...args: NativeArgument[]): void {
    this.makeCurrent();
    this.#functions[name](...args);
  }

  /**
   * Runs what a thread that captures may not do otherwise (allocate, load a module): it happens now
   * and is no part of the capture.
   */
  besideCapture<Result>(action: () => Result): Result {
    const mode = Buffer.alloc(4);
    mode.writeInt32LE(CUDA.CAPTURE_RELAXED);
    this.call('cuThreadExchangeStreamCaptureMode', mode);
    try {
      return action();
    } finally {
      this.call('cuThreadExchangeStreamCaptureMode', mode);
    }
  }

  #errorOf(name: string, status: number): Error {
    const code = ERROR_CODES.get(status) ?? 'call-failed';
    const title = this.#text('cuGetErrorName', status) || 'unknown error';
    const meaning = this.#text('cuGetErrorString', status);
    const advice = ADVICE.get(status);
    const message =
      `${name} returned ${status} (${title}${meaning === '' ? '' : `: ${meaning}`})` +
      `${advice === undefined ? '' : `; ${advice}`}`;
    return this.#translate(new NativeError(code, message, { status }));
  }

  #text(name: 'cuGetErrorName' | 'cuGetErrorString', status: number): string {
    const cell = new OutCell();
    return this.#functions[name](status, cell.bytes) === CUDA.SUCCESS
      ? readNativeText(cell.pointer)
      : '';
  }
}
