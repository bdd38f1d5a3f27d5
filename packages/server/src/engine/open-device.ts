import { profileLaw } from '@bridgekeeper/bridge';
import {
  type Device,
  openCpuDevice,
  openCudaDevice,
  openCudaRanks,
  openModelDevice,
  splitDevice,
  VirtualClock,
} from '@bridgekeeper/device';
import type { EngineConfig } from './config/engine-config.ts';

/** Set for runs under compute-sanitizer's racecheck: see hopper.cuh. */
export const EVERY_LANE_ARRIVES = 'BRIDGEKEEPER_EVERY_LANE_ARRIVES';

/** For looking into ranks where one GPU is: they take turns on it. */
const ONE_GPU_FOR_ALL_RANKS = 'BRIDGEKEEPER_ONE_GPU_FOR_ALL_RANKS';

/** Opens the configured device in the calling thread, with the law imposed on its crossings. */
export async function openDevice(
  config: Pick<EngineConfig, 'device' | 'ranks' | 'firstGpu' | 'law' | 'modelledGpu'>,
): Promise<Device> {
  const { ranks, firstGpu } = config;
  const law = config.law.value === null ? null : profileLaw(config.law.value);
  switch (config.device.value) {
    case 'cpu':
      return splitInto(ranks, await openCpuDevice({ law }));
    case 'cuda': {
      const kernelDefines: Record<string, number> =
        process.env[EVERY_LANE_ARRIVES] === '1' ? { EVERY_LANE_ARRIVES: 1 } : {};
      const options = { law, kernelDefines, ordinal: firstGpu };
      if (ranks === 1) return openCudaDevice(options);
      return process.env[ONE_GPU_FOR_ALL_RANKS] === '1'
        ? splitInto(ranks, await openCudaDevice(options))
        : openCudaRanks(ranks, options);
    }
    case 'model': {
      const clock = new VirtualClock();
      clock.runFreely();
      const gpu = config.modelledGpu;
      const roofline = gpu === null ? {} : { roofline: gpu.roofline };
      return openModelDevice({ law, clock, ranks, ...roofline });
    }
  }
}

const splitInto = (ranks: number, device: Device) =>
  ranks === 1 ? device : splitDevice(device, ranks);
