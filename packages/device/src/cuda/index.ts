import type { Device } from '../device.ts';
import type { BridgeInstruments } from '../instruments.ts';
import { CudaDevice } from './cuda-device.ts';

export { cudaAvailability } from './observe/availability.ts';
export {
  type ConfidentialSettings,
  readConfidentialState,
} from './observe/confidential.ts';
export { readGpuStatuses } from './observe/gpu-status.ts';
export { openCudaDevice, openCudaRanks } from './open.ts';
export { CudaWarmUp } from './warm-up/warm-up.ts';

/** The instruments of a device that has a bridge of its own; null for the others. */
export function instrumentsOf(device: Device): BridgeInstruments | null {
  return device instanceof CudaDevice ? device.instruments : null;
}
