import { DeviceError } from '../../errors.ts';
import { OutCell } from '../ffi/native.ts';
import { describeStatus, NVML, Nvml, type NvmlFunction } from '../ffi/nvml.ts';

/** How one GPU is set up and who uses it. null: NVML would not say, and `gaps` has the reason. */
export interface GpuStatus {
  readonly index: number;
  readonly persistence: boolean | null;
  /** Whether the GPU is split into instances; false where it cannot be. */
  readonly mig: boolean | null;
  /** Processes with a compute context, as NVML numbers them. */
  readonly processes: readonly number[] | null;
}

/** Plain data. */
export type GpuStatuses =
  | { readonly known: false; readonly reason: string }
  | { readonly known: true; readonly gpus: readonly GpuStatus[]; readonly gaps: readonly string[] };

/** A GPU runs far fewer processes than this; NVML refuses to list more. */
const MAX_PROCESSES = 256;
/** nvmlProcessInfo_t: pid, padding, 64 bits of memory, two instance ids. */
const PROCESS_INFO_BYTES = 24;

/** Asks NVML about each GPU. Never throws for what it finds. */
export function readGpuStatuses(options: { readonly libraryPath?: string } = {}): GpuStatuses {
  let nvml: Nvml;
  try {
    nvml = new Nvml(options.libraryPath);
  } catch (error) {
    if (error instanceof DeviceError) return { known: false, reason: error.message };
    throw error;
  }
  const reader = new StatusReader(nvml);
  try {
    return { known: true, gpus: reader.gpus(), gaps: reader.gaps };
  } finally {
    reader.note('nvmlShutdown', nvml.call('nvmlShutdown'));
  }
}

class StatusReader {
  readonly gaps: string[] = [];
  readonly #nvml: Nvml;

  constructor(nvml: Nvml) {
    this.#nvml = nvml;
  }

  /** Whether a status is success; anything else is a gap. */
  note(name: NvmlFunction, status: number): boolean {
    if (status !== NVML.SUCCESS) this.gaps.push(describeStatus(name, status));
    return status === NVML.SUCCESS;
  }

  gpus(): GpuStatus[] {
    const count = new OutCell();
    const name = 'nvmlDeviceGetCount_v2';
    if (!this.note(name, this.#nvml.call(name, count.bytes))) return [];
    const gpus: GpuStatus[] = [];
    for (let index = 0; index < count.i32; index++) {
      const handle = new OutCell();
      const get = 'nvmlDeviceGetHandleByIndex_v2';
      if (!this.note(get, this.#nvml.call(get, index, handle.bytes))) continue;
      const persistence = this.#persistence(handle.pointer);
      const mig = this.#mig(handle.pointer);
      gpus.push({ index, persistence, mig, processes: this.#processes(handle.pointer) });
    }
    return gpus;
  }

  #persistence(handle: bigint): boolean | null {
    const name = 'nvmlDeviceGetPersistenceMode';
    const mode = new OutCell();
    return this.note(name, this.#nvml.call(name, handle, mode.bytes)) ? mode.i32 !== 0 : null;
  }

  #mig(handle: bigint): boolean | null {
    const name = 'nvmlDeviceGetMigMode';
    const current = new OutCell();
    const status = this.#nvml.call(name, handle, current.bytes, new OutCell().bytes);
    if (status === NVML.NOT_SUPPORTED) return false;
    return this.note(name, status) ? current.i32 !== 0 : null;
  }

  #processes(handle: bigint): number[] | null {
    const name = 'nvmlDeviceGetComputeRunningProcesses_v3';
    const count = new OutCell();
    count.bytes.writeUInt32LE(MAX_PROCESSES);
    const infos = Buffer.alloc(MAX_PROCESSES * PROCESS_INFO_BYTES);
    const status = this.#nvml.call(name, handle, count.bytes, infos);
    if (!this.note(name, status)) return null;
    return Array.from({ length: Math.min(count.i32, MAX_PROCESSES) }, (_, index) =>
      infos.readUInt32LE(index * PROCESS_INFO_BYTES),
    );
  }
}
