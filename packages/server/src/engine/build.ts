import type { Clock } from '@bridgekeeper/bridge';
import type { Device } from '@bridgekeeper/device';
import {
  createEngine,
  type Engine,
  type EngineOptions,
  type PreparationPhase,
} from '@bridgekeeper/engine';
import { ReaderPool } from '@bridgekeeper/engine/loader';
import type { EngineConfig } from './config/engine-config.ts';
import { openDevice } from './open-device.ts';

/** What the engine is told of its configuration, besides its device. */
export function engineOptions(config: EngineConfig, device: Device): EngineOptions {
  return {
    ...config.limits,
    device,
    expertParallel: config.expertParallel,
    bridge: config.bridge.value,
    policy: config.policy.value,
    model: config.model,
    seal: config.seal,
    task: config.task,
    dummy: config.loadFormat === 'dummy',
    quantization: config.quantization,
    kvFormat: config.kvFormat,
    loading: config.loading.value,
    grammars: config.grammars,
  };
}

export interface BuildWatch
  extends Pick<EngineOptions, 'onModel' | 'onProgress' | 'onCrossing' | 'onLaunch'> {
  readonly onPhase?: (phase: PreparationPhase | 'device') => void;
}

/** Opens the configured device and puts the engine on it, in this thread. */
export async function buildEngine(
  config: EngineConfig,
  watch: BuildWatch = {},
): Promise<{ engine: Engine; clock: Clock }> {
  const readers = new ReaderPool();
  if (config.loadFormat !== 'dummy') readers.grow(config.loading.value.readers * config.ranks);
  try {
    watch.onPhase?.('device');
    const device = await openDevice(config);
    try {
      const engine = await createEngine({ ...engineOptions(config, device), readers, ...watch });
      return { engine, clock: device.clock };
    } catch (error) {
      await device.close();
      throw error;
    }
  } finally {
    await readers.close();
  }
}
