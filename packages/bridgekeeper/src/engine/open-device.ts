import { profileLaw } from '@bridgekeeper/bridge';
import {
  type Device,
  openCpuDevice,
  openCudaDevice,
  openModelDevice,
  VirtualClock,
} from '@bridgekeeper/device';
import type { EnginePlan } from './plan.ts';

/** Set for runs under compute-sanitizer's racecheck: see hopper.cuh. */
export const EVERY_LANE_ARRIVES = 'BRIDGEKEEPER_EVERY_LANE_ARRIVES';

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
      return openCudaDevice({
        law,
        kernelDefines: process.env[EVERY_LANE_ARRIVES] === '1' ? { EVERY_LANE_ARRIVES: 1 } : {},
      });
    case 'model': {
      const clock = new VirtualClock();
      clock.runFreely();
      const gpu = plan.modelledGpu;
      const roofline = gpu === null ? {} : { roofline: gpu.roofline };
      return openModelDevice({ law, clock, ...roofline });
    }
  }
}
