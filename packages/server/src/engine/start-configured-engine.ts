import type { Vocabulary } from '@bridgekeeper/device';
import {
  describeMemory,
  type EngineCard,
  type EngineLimits,
  type MemoryBudget,
} from '@bridgekeeper/engine';
import type { SealPolicy } from '@bridgekeeper/engine/seal';
import { HOST_CLOCK, type ServerClock } from '../host-clock.ts';
import type { Logger } from '../logging/logger.ts';
import { readableBytes } from '../logging/summary.ts';
import type { Settings } from '../settings/table.ts';
import { configureEngine, lawName } from './config/configure.ts';
import { RestartingEngine } from './restarting-engine.ts';
import { startEngine } from './start.ts';
import type { StartPhase, StartTimeline } from './start-timeline.ts';
import type { StartedEngine } from './started-engine.ts';

/** Decides what the settings leave open, says why, and starts the engine in its thread. */
export async function startConfiguredEngine(
  settings: Settings,
  log: Logger,
  seal: SealPolicy,
  timeline: StartTimeline,
  vocabulary: Vocabulary,
  sealAgain: () => Promise<SealPolicy>,
): Promise<StartedEngine> {
  const { grammarPoolBytes: poolBytes } = settings;
  const grammars = poolBytes > 0 ? { vocabulary, poolBytes } : undefined;
  const config = { ...configureEngine(settings, seal), grammars };
  const law = { value: lawName(config.law.value), reason: config.law.reason };
  const { policy } = config;
  const bridge = { ...config.bridge, value: config.bridge.value?.name ?? 'none' };
  log.info(`device ${config.device.value} (${config.device.reason})`);
  log.info(`law ${law.value} (${law.reason}), policy ${policy.value} (${policy.reason})`);
  if (config.bridge.warning !== undefined) log.warn(config.bridge.warning);
  log.debug(`weights: ${JSON.stringify(config.loading.value)} (${config.loading.reason})`);
  // What failed on a GPU may have ended all of CUDA in this process.
  const nextPlace = config.device.value === 'cuda' ? 'process' : 'thread';
  const onProgress = loadingLog(log, settings);
  const onPhase = (phase: StartPhase) => timeline.begin(phase);
  const onModel = (lines: readonly string[]) => {
    for (const line of lines) log.info(line);
  };
  timeline.begin('thread');
  const watchdog = { clock: HOST_CLOCK, timeoutSeconds: settings.watchdogTimeout };
  const first = await startEngine(config, { onModel, onPhase, onProgress, watchdog });
  const { card } = first;
  const engine = new RestartingEngine({
    first,
    startAgain: async (signal) => {
      // Its key was erased once the model was loaded.
      const again = await sealAgain();
      const quietSecondsMax = startSeconds(settings, card);
      const limits = { signal, watchdog, quietSecondsMax };
      const options = { onProgress, place: nextPlace, ...limits } as const;
      return startEngine({ ...config, seal: again }, options).finally(() => again.userKey?.fill(0));
    },
    policy: {
      restarts: settings.engineRestarts,
      windowSeconds: settings.engineRestartWindow,
      requests: settings.engineRestartRequests,
    },
    seed: config.limits.seed,
    clock: HOST_CLOCK,
    log,
  });
  const weights = readableBytes(card.weightBytes);
  log.info(`loaded ${card.architecture}: ${weights} in ${card.loadSeconds.toFixed(2)} s`);
  if (card.sealRoot !== null) log.info(`model verified: root ${card.sealRoot}`);
  for (const line of describeMemory(card.memory)) log.info(line);
  if (config.limits.tiers !== undefined) log.info(tiersLine(config.limits.tiers, card.memory));
  for (const note of card.notes) log.info(note);
  const verified = card.sealRoot === null ? {} : { modelSha256: card.sealRoot };
  const profile = config.bridge.value;
  return { engine, live: engine, restarts: engine, law, policy, bridge, profile, ...verified };
}

/** Of the first start's time, one of the next may say nothing for so many times as long. */
const START_RATIO = 4;

/** How long a start may say nothing; 0: for ever. */
function startSeconds(
  { watchdogTimeout }: Settings,
  { loadSeconds, prepareSeconds }: EngineCard,
): number {
  if (watchdogTimeout === 0) return 0;
  return Math.max(watchdogTimeout, Math.ceil(START_RATIO * (loadSeconds + prepareSeconds)));
}

/** What is below the device, and what becomes of it. */
function tiersLine(
  { hostBytes, disk }: NonNullable<EngineLimits['tiers']>,
  { kvBytes, kvTokens }: Pick<MemoryBudget, 'kvBytes' | 'kvTokens'>,
): string {
  const of = (bytes: number) => {
    const tokens = Math.floor((bytes * kvTokens) / kvBytes).toLocaleString('en-US');
    return `${readableBytes(bytes)} (${tokens} tokens)`;
  };
  const behind = disk === null ? '' : `, and ${of(disk.bytes)} on disk, encrypted`;
  return (
    `KV that leaves the device: ${of(hostBytes)} of host memory${behind}. It is of this process: ` +
    'a restart begins with nothing'
  );
}

const LOG_EVERY_NS = 2e9;

/** A line now and then while weights come: small models are there before the first. */
export function loadingLog(
  log: Pick<Logger, 'info'>,
  { model }: Pick<Settings, 'model'>,
  clock: Pick<ServerClock, 'nowNs'> = HOST_CLOCK,
) {
  const startedNs = clock.nowNs();
  let loggedNs = startedNs;
  return (bytesDone: number, bytesTotal: number) => {
    const nowNs = clock.nowNs();
    // Random weights come from nowhere: there is nothing to wait for.
    if (bytesTotal === 0 || nowNs - loggedNs < LOG_EVERY_NS) return;
    loggedNs = nowNs;
    const done = `${readableBytes(bytesDone)} of ${readableBytes(bytesTotal)}`;
    const rate = readableBytes((bytesDone / (nowNs - startedNs)) * 1e9);
    log.info(`loading ${model}: ${done}, ${rate}/s`);
  };
}
