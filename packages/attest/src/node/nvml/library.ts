import koffi from 'koffi';
import { AttestError } from '../../core/errors.ts';
import { NVML_SIGNATURES, NVML_STATUS, type NvmlFunction, TEXT_BYTES } from './layout.ts';

type Argument = number | bigint | Uint8Array;
type Bound = ReturnType<ReturnType<typeof koffi.load>['func']>;

const C_TYPES = { pointer: 'void *', u32: 'uint32_t', u64: 'uint64_t' } as const;

/** A GPU by NVML's order: by PCI bus, whatever CUDA_VISIBLE_DEVICES says. */
export interface NvmlDevice {
  readonly index: number;
  readonly handle: bigint;
}

/** An open NVML. What a status means is for the caller: many are facts, not failures. */
export class NvmlLibrary {
  readonly #functions = new Map<NvmlFunction, Bound>();

  /** `path` overrides what the system's loader finds. Throws AttestError 'not-available'. */
  constructor(path = 'libnvidia-ml.so.1') {
    this.#bind(path);
    const status = this.call('nvmlInit_v2');
    if (status === NVML_STATUS.success) return;
    throw new AttestError('not-available', `${nvmlFailure('nvmlInit_v2', status)}: no GPU is seen`);
  }

  #bind(path: string): void {
    let library: ReturnType<typeof koffi.load>;
    try {
      library = koffi.load(path);
    } catch (cause) {
      const message = `${path} could not be opened: it comes with the NVIDIA driver`;
      throw new AttestError('not-available', message, { cause });
    }
    for (const [name, types] of Object.entries(NVML_SIGNATURES)) {
      const cTypes = types.map((type) => C_TYPES[type]);
      try {
        this.#functions.set(name as NvmlFunction, library.func(name, 'int32_t', cTypes));
      } catch {
        // An older driver: the function counts as not found when it is called.
      }
    }
  }

  /** The status; `functionNotFound` also where this library does not export the function. */
  call(name: NvmlFunction, ...args: Argument[]): number {
    return this.#functions.get(name)?.(...args) ?? NVML_STATUS.functionNotFound;
  }

  /** The same on a pool thread: collecting evidence takes seconds. Buffers must live until then. */
  callAsync(name: NvmlFunction, ...args: Argument[]): Promise<number> {
    const bound = this.#functions.get(name);
    if (bound === undefined) return Promise.resolve(NVML_STATUS.functionNotFound);
    return new Promise((resolve, reject) => {
      bound.async(...args, (error: unknown, status: number) => {
        if (error) reject(error);
        else resolve(status);
      });
    });
  }

  /** Throws AttestError 'not-available'. */
  devices(): NvmlDevice[] {
    const cell = Buffer.alloc(8);
    this.demand('nvmlDeviceGetCount_v2', this.call('nvmlDeviceGetCount_v2', cell));
    const count = cell.readUInt32LE(0);
    return Array.from({ length: count }, (_, index) => {
      const out = Buffer.alloc(8);
      const name = 'nvmlDeviceGetHandleByIndex_v2';
      this.demand(name, this.call(name, index, out));
      return { index, handle: out.readBigUInt64LE(0) };
    });
  }

  /** A text of the system or, given its handle, of a device; or the status. */
  text(name: NvmlFunction, ...handle: bigint[]): string | number {
    const text = Buffer.alloc(TEXT_BYTES);
    const status = this.call(name, ...handle, text, text.length);
    if (status !== NVML_STATUS.success) return status;
    const end = text.indexOf(0);
    return text.toString('utf8', 0, end < 0 ? text.length : end);
  }

  /** Throws AttestError 'not-available' unless `status` is success. */
  demand(name: NvmlFunction, status: number): void {
    if (status === NVML_STATUS.success) return;
    throw new AttestError('not-available', nvmlFailure(name, status));
  }

  close(): void {
    this.call('nvmlShutdown');
  }
}

const STATUS_NAMES: ReadonlyMap<number, string> = new Map([
  [2, 'invalid argument'],
  [3, 'not supported'],
  [4, 'no permission'],
  [9, 'driver not loaded'],
  [10, 'timeout'],
  [13, 'function not found'],
  [15, 'GPU is lost'],
  [18, 'driver and library differ in version'],
  [25, 'argument version mismatch'],
  [27, 'not ready'],
  [999, 'unknown error'],
]);

/** `nvmlInit_v2 returned 9 (driver not loaded)`. */
export function nvmlFailure(name: NvmlFunction, status: number): string {
  return `${name} returned ${status} (${STATUS_NAMES.get(status) ?? 'no known status'})`;
}
