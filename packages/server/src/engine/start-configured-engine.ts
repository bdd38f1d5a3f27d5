import type { Vocabulary } from '@bridgekeeper/device';
import { describeMemory, type EngineCard, type EngineLimits } from '@bridgekeeper/engine';
import type { SealPolicy } from '@bridgekeeper/engine/seal';
import { HOST_CLOCK, type ServerClock } from '../host-clock.ts';
import type { Logger } from '../logging/logger.ts';
import { readableBytes } from '../logging/summary.ts';
import type { Settings } from '../settings/table.ts';
import { configureEngine, lawName } from './config/configure.ts';
import type { EngineConfig } from './config/engine-config.ts';
import type { EnginePlace } from './engine-channel.ts';
import { ReplicatedEngine } from './replicated-engine.ts';
import { RestartingEngine } from './restarting-engine.ts';
import { type StartOptions, startEngine } from './start.ts';
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
  const onProgress = loadingLog(log, settings);
  const onPhase = (phase: StartPhase) => timeline.begin(phase);
  const onModel = (lines: readonly string[]) => {
    for (const line of lines) log.info(line);
  };
  timeline.begin('thread');
  const engines = new EngineStarts(config, settings, log, sealAgain);
  const first = await engines.start(0, { onModel, onPhase, onProgress });
  const { card } = first;
  const { dataParallelSize: count } = settings;
  const others = Array.from({ length: count - 1 }, (_, i) => i + 1);
  const weights = readableBytes(card.weightBytes);
  log.info(`loaded ${card.architecture}: ${weights} in ${card.loadSeconds.toFixed(2)} s`);
  if (card.sealRoot !== null) log.info(`model verified: root ${card.sealRoot}`);
  for (const line of describeMemory(card.memory, config.ranks)) log.info(line);
  const { speculation } = config.limits;
  if (speculation !== undefined) {
    const { drafts, lookupMin, lookupMax } = speculation;
    const by = lookupMin === lookupMax ? `${lookupMax}` : `${lookupMax} to ${lookupMin}`;
    log.info(
      `speculation: up to ${drafts} tokens a row and step, by the last ${by}, where it pays`,
    );
  }
  if (config.limits.tiers !== undefined) log.info(tiersLine(config.limits.tiers, card));
  for (const note of card.notes) log.info(note);
  const verified = card.sealRoot === null ? {} : { modelSha256: card.sealRoot };
  const decided = { law, policy, bridge, profile: config.bridge.value, ...verified };
  if (others.length === 0) return { engine: first, live: first, restarts: first, ...decided };
  const started = await engines.startAll(others).catch(async (error: unknown) => {
    await first.shutdown(0);
    throw error;
  });
  const engine = new ReplicatedEngine([first, ...started]);
  log.info(`${count} engines have the model, and each request is one engine's`);
  return { engine, restarts: engine, ...decided };
}

/** The engines of one server, by number: alike but for the GPUs that they have. */
class EngineStarts {
  readonly #config: EngineConfig;
  readonly #settings: Settings;
  readonly #log: Logger;
  readonly #sealAgain: () => Promise<SealPolicy>;
  readonly #nextPlace: EnginePlace;

  constructor(
    config: EngineConfig,
    settings: Settings,
    log: Logger,
    sealAgain: () => Promise<SealPolicy>,
  ) {
    this.#config = config;
    this.#settings = settings;
    this.#log = log;
    this.#sealAgain = sealAgain;
    // What failed on a GPU may have ended all of CUDA in its process.
    this.#nextPlace = config.device.value === 'cuda' ? 'process' : 'thread';
  }

  /** Starts one. The first uses up the seal's key that the configuration has. */
  async start(number: number, options: StartOptions): Promise<RestartingEngine> {
    const { engineRestarts, engineRestartWindow, engineRestartRequests } = this.#settings;
    const { watchdogTimeout: timeoutSeconds } = this.#settings;
    const learns = this.#config.device.value !== 'cpu';
    const watchdog = { clock: HOST_CLOCK, timeoutSeconds, learns };
    const quietFirst = startSeconds(this.#settings, null);
    const watched = { ...options, watchdog, quietSecondsMax: quietFirst };
    const first =
      number === 0
        ? await startEngine(this.#config, { ...watched, place: this.#firstPlace })
        : await this.#startWithKey(number, watched);
    const quietSecondsMax = startSeconds(this.#settings, first.card);
    const progress = options.onProgress === undefined ? {} : { onProgress: options.onProgress };
    return new RestartingEngine({
      first,
      startAgain: (signal) =>
        this.#startWithKey(number, { ...progress, watchdog, signal, quietSecondsMax }),
      policy: {
        restarts: engineRestarts,
        windowSeconds: engineRestartWindow,
        requests: engineRestartRequests,
      },
      seed: this.#config.limits.seed + number,
      clock: HOST_CLOCK,
      log: this.#log,
    });
  }

  /** All of these, side by side. Where one fails those that started are ended. */
  async startAll(numbers: readonly number[]): Promise<RestartingEngine[]> {
    const started = await Promise.allSettled(numbers.map((number) => this.start(number, {})));
    const engines = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const failed = started.find((one) => one.status === 'rejected');
    if (failed === undefined) return engines;
    await Promise.all(engines.map((engine) => engine.shutdown(0)));
    throw failed.reason;
  }

  /** With several of them each has a process, so that what one does to CUDA leaves the others. */
  get #firstPlace(): EnginePlace {
    return this.#settings.dataParallelSize > 1 ? this.#nextPlace : 'thread';
  }

  async #startWithKey(number: number, options: StartOptions) {
    // The key that the configuration had was erased once the model was loaded.
    const seal = await this.#sealAgain();
    const firstGpu = number * this.#config.ranks;
    const config = { ...this.#config, seal, firstGpu };
    const place = this.#nextPlace;
    return startEngine(config, { ...options, place }).finally(() => seal.userKey?.fill(0));
  }
}

/** Of the first start's time, one of the next may say nothing for so many times as long. */
const START_RATIO = 4;

/**
 * How long a start may say nothing; 0: for ever. `first`: what the first one took; null: this is
 * the first.
 */
export function startSeconds(
  { watchdogTimeout }: Pick<Settings, 'watchdogTimeout'>,
  first: Pick<EngineCard, 'loadSeconds' | 'prepareSeconds'> | null,
): number {
  if (watchdogTimeout === 0 || first === null) return watchdogTimeout;
  const tookSeconds = first.loadSeconds + first.prepareSeconds;
  return Math.max(watchdogTimeout, Math.ceil(START_RATIO * tookSeconds));
}

/** What is below the device, how it is divided, and what becomes of it. */
export function tiersLine(
  { hostBytes, disk }: Pick<NonNullable<EngineLimits['tiers']>, 'hostBytes' | 'disk'>,
  { kvParts, pageTokens }: Pick<EngineCard, 'kvParts' | 'pageTokens'>,
): string {
  const of = (bytes: number, tier: 1 | 2) => {
    const held = kvParts.map(({ part, places }) => {
      const count = places[tier];
      const tokens = (count * pageTokens).toLocaleString('en-US');
      if (part === 'state') return `${count.toLocaleString('en-US')} states`;
      return part === 'context' ? `${tokens} tokens` : `${tokens} in windows`;
    });
    return `${readableBytes(bytes)} (${held.join(', ')})`;
  };
  const behind = disk === null ? '' : `, and ${of(disk.bytes, 2)} on disk, encrypted`;
  return (
    `KV that leaves the device: ${of(hostBytes, 1)} of host memory${behind}. It is of this ` +
    'process: a restart begins with nothing'
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
