import { DRIVER_LIBRARY, type Driver } from '@bridgekeeper/native';
import { DeviceError } from '../../errors.ts';
import { openDriver } from '../native.ts';

/** One GPU as CUDA sees it. */
export interface CudaGpu {
  readonly name: string;
  /** `GPU-` and 32 hex digits in groups, as NVML and nvidia-smi write it. */
  readonly uuid: string;
}

/** Whether a GPU can be had here, and what was found or missing: fit for a log line. */
export interface CudaAvailability {
  readonly available: boolean;
  readonly detail: string;
  /** The GPU that `openCudaDevice` takes by default; null when none is available. */
  readonly gpu: CudaGpu | null;
  /** All that the driver sees, in its order, up to the first that it cannot name. */
  readonly gpus: readonly CudaGpu[];
}

/**
 * Looks for a driver and a GPU without creating a context. A GPU whose toolkit libraries are
 * missing counts as available: opening it then fails with what to install, rather than work moving
 * silently to the CPU.
 */
export function cudaAvailability(driverPath = DRIVER_LIBRARY): CudaAvailability {
  try {
    const driver = openDriver(driverPath);
    const count = driver.read('cuDeviceGetCount').i32;
    if (count === 0) return unavailable('the NVIDIA driver sees no GPU');
    const detail = `${count} NVIDIA GPU${count === 1 ? '' : 's'}`;
    const gpu = identify(driver, 0);
    return { available: true, detail, gpu, gpus: [gpu, ...othersOf(driver, count)] };
  } catch (error) {
    // Fit for a log line: what to install is said by whoever asks for the GPU by name.
    if (error instanceof DeviceError) return unavailable(error.message.split(': ')[0]!);
    throw error;
  }
}

/** One of them that is broken does not make the first unavailable. */
function othersOf(driver: Driver, count: number): CudaGpu[] {
  const others: CudaGpu[] = [];
  try {
    for (let ordinal = 1; ordinal < count; ordinal++) others.push(identify(driver, ordinal));
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
  }
  return others;
}

function unavailable(detail: string): CudaAvailability {
  return { available: false, detail, gpu: null, gpus: [] };
}

/**
 * CUDA and NVML count GPUs in different orders, and CUDA_VISIBLE_DEVICES hides some from CUDA only:
 * the UUID is what both agree on.
 */
function identify(driver: Driver, ordinal: number): CudaGpu {
  const handle = driver.read('cuDeviceGet', ordinal).i32;
  const name = Buffer.alloc(256);
  driver.call('cuDeviceGetName', name, name.length, handle);
  const uuid = Buffer.alloc(16);
  driver.call('cuDeviceGetUuid', uuid, handle);
  const groups = /^(.{8})(.{4})(.{4})(.{4})(.{12})$/.exec(uuid.toString('hex'))!.slice(1);
  return { name: name.toString('utf8', 0, name.indexOf(0)), uuid: `GPU-${groups.join('-')}` };
}
