import { DeviceError } from '../errors.ts';
import { DRIVER_LIBRARY, openDriver } from './ffi/driver.ts';

/** Whether a GPU can be had here, and what was found or missing: fit for a log line. */
export interface CudaAvailability {
  readonly available: boolean;
  readonly detail: string;
}

/**
 * Looks for a driver and a GPU without creating a context. A GPU whose toolkit libraries are
 * missing counts as available: opening it then fails with what to install, rather than work moving
 * silently to the CPU.
 */
export function cudaAvailability(driverPath = DRIVER_LIBRARY): CudaAvailability {
  try {
    const count = openDriver(driverPath).read('cuDeviceGetCount').i32;
    if (count === 0) return { available: false, detail: 'the NVIDIA driver sees no GPU' };
    return { available: true, detail: `${count} NVIDIA GPU${count === 1 ? '' : 's'}` };
  } catch (error) {
    if (error instanceof DeviceError) return { available: false, detail: error.message };
    throw error;
  }
}
