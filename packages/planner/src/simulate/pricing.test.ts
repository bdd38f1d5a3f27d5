import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { measureDecode, measurePrefill, prepareModel } from '@bridgekeeper/engine/measure';
import { expect, test } from 'vitest';
import { knownGpu, reachedOf, rooflineOf } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import { StepPricer, totalNs } from './pricing.ts';
import { DEFAULT_FLAGS } from './scenario.ts';

/** What the modelled GPU takes for the engine's own kernels, one by one. */
async function modelled(name: string, gpuName: string) {
  const clock = new VirtualClock();
  clock.runFreely();
  const gpu = knownGpu(gpuName);
  const device = openModelDevice({
    clock,
    law: null,
    roofline: rooflineOf(gpu),
    reached: reachedOf(gpu),
  });
  const model = await prepareModel({
    device,
    policy: 'drain-first',
    burst: { tollNs: 0, interTokenLimitNs: 50e6 },
    model: name,
    spec: knownModel(name).spec,
    dummy: true,
    quantization: undefined,
    kvFormat: 'element',
    maxModelTokens: 2048,
    maxRows: 64,
    maxBatchTokens: 1024,
    pageTokens: 32,
    memoryUtilization: 0.9,
    kvBytes: undefined,
    prefixCaching: false,
    chunkedPrefill: true,
    maxWaiting: 1,
    seed: 0,
  });
  return { device, model };
}

test.each([
  ['Qwen3-8B', 'h200'],
  ['Qwen3-8B-FP8', 'h100'],
  ['gpt-oss-20b', 'h100'],
] as const)(
  'steps of %s on an %s cost what their kernels do on the modelled GPU',
  async (name, gpu) => {
    const { device, model } = await modelled(name, gpu);
    const scenario = {
      model: knownModel(name),
      gpu: knownGpu(gpu),
      law: null,
      engine: 'bridgekeeper-drain-first',
      flags: DEFAULT_FLAGS,
      stepFactor: 1,
    } as const;
    const pricer = new StepPricer(scenario, 0);
    for (const batch of [1, 8, 64]) {
      const setting = { batch, contextTokens: 1000, steps: 8, repeats: 1 };
      const { stepNs } = await measureDecode(device, model, setting);
      const lengths = new Array<number>(batch).fill(1004);
      const priced = totalNs(pricer.price({ lengths, chunks: [], lines: batch }));
      expect(Math.abs(priced / stepNs - 1)).toBeLessThan(0.03);
    }
    const setting = { tokens: 1024, prefixTokens: 0, repeats: 1 };
    const { stepNs } = await measurePrefill(device, model, setting);
    const chunks = [{ start: 0, length: 1024 }];
    const priced = totalNs(pricer.price({ lengths: [], chunks, lines: 1 }));
    expect(Math.abs(priced / stepNs - 1)).toBeLessThan(0.05);
  },
);
