import { readConfidentialState } from '@bridgekeeper/device';
import type { MeasuredDevice } from '@bridgekeeper/report';

/** A device as results name it; a GPU with the version of its driver, where NVML says it. */
export function measuredDevice(kind: string, name: string): MeasuredDevice {
  return { name, driver: kind === 'cuda' ? readConfidentialState().driverVersion : null };
}
