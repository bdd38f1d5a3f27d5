import { describeMemory } from '@bridgekeeper/engine';
import { lawName, planEngine } from '../engine/choose.ts';
import { startEngine } from '../engine/start.ts';
import type { Logger } from '../logging/logger.ts';
import type { StartedEngine } from '../server/start.ts';
import type { Settings } from '../settings/table.ts';

/** Makes the choices that were left open, says why, and starts the engine in its thread. */
export async function startPlannedEngine(settings: Settings, log: Logger): Promise<StartedEngine> {
  const plan = planEngine(settings);
  const law = { name: lawName(plan.law.value), reason: plan.law.reason };
  const policy = { name: plan.policy.value, reason: plan.policy.reason };
  const { value, ...why } = plan.bridge;
  const bridge = { name: value?.name ?? 'none', ...why };
  log.info(`device ${plan.device.value} (${plan.device.reason})`);
  log.info(`law ${law.name} (${law.reason}), policy ${policy.name} (${policy.reason})`);
  if (plan.bridge.warning !== undefined) log.warn(plan.bridge.warning);
  const isGpu = plan.device.value === 'cuda';
  const onPreparing = () => {
    if (!isGpu) return;
    log.info('preparing kernels and graphs: a first start on a machine compiles and times them');
  };
  const engine = await startEngine(plan, { onPreparing });
  const { card } = engine;
  const megabytes = (card.weightBytes / 1e6).toFixed(1);
  log.info(`loaded ${card.architecture}: ${megabytes} MB in ${card.loadSeconds.toFixed(2)} s`);
  if (isGpu) log.info(`prepared kernels and graphs in ${card.prepareSeconds.toFixed(2)} s`);
  for (const line of describeMemory(card.memory)) log.info(line);
  for (const note of card.notes) log.info(`checkpoint: ${note}`);
  return { engine, law, policy, bridge };
}
