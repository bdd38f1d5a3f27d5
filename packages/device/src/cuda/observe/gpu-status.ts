import {
  describeStatus,
  NativeError,
  NVML,
  Nvml,
  type NvmlFunction,
  OutCell,
  PROCESS_INFO,
} from '@bridgekeeper/native';

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

/** Asks NVML about each GPU. Never throws for what it finds. */
export function readGpuStatuses(options: { readonly libraryPath?: string } = {}): GpuStatuses {
  let nvml: Nvml;
  try {
    nvml = new Nvml(options.libraryPath);
  } catch (error) {
    if (error instanceof NativeError) return { known: false, reason: error.message };
    throw error;
  }
  const reader = new StatusReader(nvml);
  try {
    return { known: true, gpus: reader.gpus(), gaps: reader.gaps };
  } finally {
    reader.note('nvmlShutdown', nvml.close());
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
    const handles = this.#nvml.handles();
    if (typeof handles === 'number') this.note('nvmlDeviceGetCount_v2', handles);
    const gpus: GpuStatus[] = [];
    for (const [index, handle] of (typeof handles === 'number' ? [] : handles).entries()) {
      if (typeof handle === 'number') {
        this.note('nvmlDeviceGetHandleByIndex_v2', handle);
        continue;
      }
      const persistence = this.#persistence(handle);
      const mig = this.#mig(handle);
      gpus.push({ index, persistence, mig, processes: this.#processes(handle) });
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
    const infos = Buffer.alloc(MAX_PROCESSES * PROCESS_INFO.bytes);
    const status = this.#nvml.call(name, handle, count.bytes, infos);
    if (!this.note(name, status)) return null;
    return Array.from({ length: Math.min(count.i32, MAX_PROCESSES) }, (_, index) =>
      infos.readUInt32LE(index * PROCESS_INFO.bytes + PROCESS_INFO.pid),
    );
  }
}
