import { describeMemory, type SealPolicy } from '@bridgekeeper/engine';
import { HOST_CLOCK } from '../edge/time.ts';
import { lawName, planEngine } from '../engine/choose.ts';
import { startEngine } from '../engine/start.ts';
import type { Logger } from '../logging/logger.ts';
import type { StartedEngine } from '../server/start.ts';
import type { Settings } from '../settings/table.ts';

/** Makes the choices that were left open, says why, and starts the engine in its thread. */
export async function startPlannedEngine(
  settings: Settings,
  log: Logger,
  seal: SealPolicy,
): Promise<StartedEngine> {
  const plan = planEngine(settings, seal);
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
  log.debug(`weights: ${JSON.stringify(plan.loading.value)} (${plan.loading.reason})`);
  const onProgress = loadingLog(log, settings);
  const engine = await startEngine(plan, { onPreparing, onProgress });
  const { card } = engine;
  const megabytes = (card.weightBytes / 1e6).toFixed(1);
  log.info(`loaded ${card.architecture}: ${megabytes} MB in ${card.loadSeconds.toFixed(2)} s`);
  if (card.sealRoot !== null) log.info(`model verified: root ${card.sealRoot}`);
  if (isGpu) log.info(`prepared kernels and graphs in ${card.prepareSeconds.toFixed(2)} s`);
  for (const line of describeMemory(card.memory)) log.info(line);
  for (const note of card.notes) log.info(`checkpoint: ${note}`);
  const verified = card.sealRoot === null ? {} : { modelSha256: card.sealRoot };
  return { engine, law, policy, bridge, ...verified };
}

const LOG_EVERY_NS = 2e9;

/** A line now and then while weights come: small models are there before the first. */
function loadingLog(log: Logger, { model }: Settings) {
  const startedNs = HOST_CLOCK.nowNs();
  let loggedNs = startedNs;
  return (bytesDone: number, bytesTotal: number) => {
    const nowNs = HOST_CLOCK.nowNs();
    if (nowNs - loggedNs < LOG_EVERY_NS) return;
    loggedNs = nowNs;
    const done = `${(bytesDone / 1e9).toFixed(1)} of ${(bytesTotal / 1e9).toFixed(1)} GB`;
    const rate = (bytesDone / (nowNs - startedNs)).toFixed(1);
    log.info(`loading ${model}: ${done}, ${rate} GB/s`);
  };
}
