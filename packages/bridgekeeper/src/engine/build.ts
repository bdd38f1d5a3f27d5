import type { Clock } from '@bridgekeeper/bridge';
import type { Device } from '@bridgekeeper/device';
import { createEngine, type Engine, type EngineOptions, ReaderPool } from '@bridgekeeper/engine';
import { lawName } from './choose.ts';
import { openDevice } from './open-device.ts';
import type { EnginePlan } from './plan.ts';

/** What the engine is told of a plan, besides its device. */
export function engineOptions(plan: EnginePlan, device: Device): EngineOptions {
  return {
    ...plan.limits,
    device,
    lawName: lawName(plan.law.value),
    bridge: plan.bridge.value,
    policy: plan.policy.value,
    model: plan.model,
    seal: plan.seal,
    dummy: plan.loadFormat === 'dummy',
    quantization: plan.quantization,
    kvFormat: plan.kvFormat,
    loading: plan.loading.value,
  };
}

/** Opens the planned device and puts the engine on it, in this thread. */
export async function buildEngine(
  plan: EnginePlan,
  watch: Pick<EngineOptions, 'onProgress' | 'onPreparing'> = {},
): Promise<{ engine: Engine; clock: Clock }> {
  const readers = new ReaderPool();
  if (plan.loadFormat !== 'dummy') readers.grow(plan.loading.value.readers);
  try {
    const device = await openDevice(plan);
    try {
      const engine = await createEngine({ ...engineOptions(plan, device), readers, ...watch });
      return { engine, clock: device.clock };
    } catch (error) {
      await device.close();
      throw error;
    }
  } finally {
    await readers.close();
  }
}
