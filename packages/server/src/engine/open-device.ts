import { profileLaw } from '@bridgekeeper/bridge';
import {
  type Device,
  openCpuDevice,
  openCudaDevice,
  openModelDevice,
  VirtualClock,
} from '@bridgekeeper/device';
import type { EngineConfig } from './config/engine-config.ts';

/** Set for runs under compute-sanitizer's racecheck: see hopper.cuh. */
export const EVERY_LANE_ARRIVES = 'BRIDGEKEEPER_EVERY_LANE_ARRIVES';

/** Opens the configured device in the calling thread, with the law imposed on its crossings. */
export async function openDevice(
  config: Pick<EngineConfig, 'device' | 'law' | 'modelledGpu'>,
): Promise<Device> {
  const law = config.law.value === null ? null : profileLaw(config.law.value);
  switch (config.device.value) {
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
      const gpu = config.modelledGpu;
      const roofline = gpu === null ? {} : { roofline: gpu.roofline };
      return openModelDevice({ law, clock, ...roofline });
    }
  }
}
