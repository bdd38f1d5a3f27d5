import { profileLaw } from '@bridgekeeper/bridge';
import {
  type Device,
  openCpuDevice,
  openCudaDevice,
  openModelDevice,
  VirtualClock,
} from '@bridgekeeper/device';
import type { EnginePlan } from './plan.ts';

/**
 * Opens the device that `plan` chose, in the calling thread, with the plan's law imposed on its
 * crossings.
 */
export async function openDevice(
  plan: Pick<EnginePlan, 'device' | 'law' | 'modelledGpu'>,
): Promise<Device> {
  const law = plan.law.value === null ? null : profileLaw(plan.law.value);
  switch (plan.device.value) {
    case 'cpu':
      return openCpuDevice({ law });
    case 'cuda':
      return openCudaDevice({ law });
    case 'model': {
      const clock = new VirtualClock();
      clock.runFreely();
      const gpu = plan.modelledGpu;
      const roofline = gpu === null ? {} : { roofline: gpu.roofline };
      return openModelDevice({ law, clock, ...roofline });
    }
  }
}
