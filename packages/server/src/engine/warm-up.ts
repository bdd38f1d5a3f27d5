import { CudaWarmUp } from '@bridgekeeper/device';
import type { Settings } from '../settings/table.ts';
import { chooseDevice } from './config/configure.ts';

/**
 * Begins to make the GPU ready that the first engine is going to have in this process; null: it
 * has none, or is in a process of its own.
 */
export function warmUpDevice({
  device,
  dataParallelSize,
}: Pick<Settings, 'device' | 'dataParallelSize'>): CudaWarmUp | null {
  if (dataParallelSize > 1) return null;
  return chooseDevice(device).value === 'cuda' ? new CudaWarmUp() : null;
}
