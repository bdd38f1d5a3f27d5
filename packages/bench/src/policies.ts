import type { Clock } from '@bridgekeeper/bridge';
import { hash32, SystemClock } from '@bridgekeeper/device';
import {
  type EngineClient,
  type EngineStats,
  type GenerationRequest,
  GREEDY,
  POLICY_NAMES,
} from '@bridgekeeper/engine';
import type { SealPolicy } from '@bridgekeeper/engine/seal';
import { type MeasuredRun, quantile, summarise } from '@bridgekeeper/report';
import {
  buildEngine,
  chooseLaw,
  configureEngine,
  type EngineConfig,
  flag,
  integer,
  lawName,
  listOf,
  MODEL_FLAG,
  measuredDevice,
  readSealPolicy,
  SETTINGS,
  type Settings,
  settingsWith,
  text,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from './seal.ts';
import type { Suite, SuiteResult } from './suite.ts';

/** A closed loop of equal requests: as many at a time as `concurrency`. */
export interface Load {
  readonly concurrency: number;
  readonly requests: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

interface Observed {
  readonly seconds: number;
  /** By request. */
  readonly tokens: readonly (readonly number[])[];
  /** Between events of a request, and how many tokens the later one brought. */
  readonly gapMs: readonly number[];
  readonly burstTokens: readonly number[];
  readonly before: EngineStats;
  readonly after: EngineStats;
}

const FLAGS = {
  model: MODEL_FLAG,
  loadFormat: flag(SETTINGS.loadFormat.kind, 'auto', 'auto or dummy'),
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  gpu: flag(text('name'), 'law', 'reference profile of a modelled GPU'),
  law: flag(listOf('laws', SETTINGS.law.kind), ['auto'], 'laws, separated by commas'),
  policy: flag(listOf('policies', SETTINGS.policy.kind), POLICY_NAMES, 'step policies'),
  concurrency: flag(listOf('n,n', integer(1, 65536)), [1, 8], 'requests at a time'),
  promptTokens: flag(integer(1, 2 ** 20), 32, 'tokens of each prompt'),
  outputTokens: flag(integer(1, 2 ** 20), 128, 'tokens of each answer'),
  interTokenLimitMs: flag(SETTINGS.interTokenLimitMs.kind, 50, 'milliseconds of a burst at most'),
  repeats: flag(integer(1, 100), 3, 'measurements of each'),
  ...SEAL_FLAGS,
};

type PoliciesValues = Values<typeof FLAGS>;

/** Step policies under laws, side by side in one run, without HTTP. */
export const POLICIES_SUITE: Suite<typeof FLAGS> = {
  name: 'policies',
  summary: 'throughput, bursts and crossings by policy, law and concurrency, without HTTP',
  plot: {
    title: 'Output tokens per second: each policy and law against the best',
    x: 'concurrency',
    y: 'outputTokensPerSecond',
    colour: 'policy',
    dash: 'law',
  },
  flags: FLAGS,
  async run(values, progress) {
    const { concurrency, promptTokens, outputTokens } = values;
    const seal = await readSealPolicy(values);
    const loads = concurrency.map((requests) => {
      return { concurrency: requests, requests, promptTokens, outputTokens };
    });
    const outputs: Outputs = new Map();
    const results: SuiteResult[] = [];
    for (const law of values.law) {
      for (const policy of values.policy) {
        const config = configOf(values, { law, policy }, loads, seal);
        results.push(await benchPolicy(config, loads, values.repeats, outputs, progress));
      }
    }
    return { device: results[0]!.device, runs: results.flatMap((result) => result.runs) };
  },
};

function configOf(
  values: PoliciesValues,
  way: Pick<Settings, 'law' | 'policy'>,
  loads: readonly Load[],
  seal: SealPolicy,
): EngineConfig {
  const { model, loadFormat, device, interTokenLimitMs } = values;
  const settings = settingsWith({
    model,
    loadFormat,
    device,
    ...way,
    maxNumSeqs: Math.max(...loads.map((load) => load.concurrency)),
    maxModelLen: values.promptTokens + values.outputTokens,
    interTokenLimitMs,
  });
  const config = configureEngine(settings, seal);
  if (values.gpu === 'law' || config.device.value !== 'model') return config;
  const gpu = chooseLaw(`emulate:${values.gpu}`, 'model');
  return { ...config, modelledGpu: gpu.value };
}

/** The tokens of each load's requests as the first policy and law that ran it gave them. */
type Outputs = Map<string, readonly (readonly number[])[]>;

/**
 * Measures one configuration in this thread: `repeats` times for each load, after one short
 * warm-up.
 */
async function benchPolicy(
  config: EngineConfig,
  loads: readonly Load[],
  repeats: number,
  outputs: Outputs,
  progress: (line: string) => void,
): Promise<SuiteResult> {
  const realClock = new SystemClock();
  const { engine, clock } = await buildEngine(config);
  const runs: MeasuredRun[] = [];
  const { device } = engine.card;
  try {
    for (const load of loads) await drive(engine, clock, { ...load, outputTokens: 48 }, 0);
    for (const [index, load] of loads.entries()) {
      const measured: MeasuredRun['metrics'][] = [];
      for (let repeat = 0; repeat < repeats; repeat++) {
        const seed = 1 + index * repeats + repeat;
        const startedNs = realClock.nowNs();
        const observed = await drive(engine, clock, load, seed);
        const realSeconds = (realClock.nowNs() - startedNs) / 1e9;
        const equal = compareOutputs(outputs, seed, observed.tokens);
        const isVirtual = config.device.value === 'model';
        const metrics = metricsOf(observed, load);
        const pace = isVirtual ? { virtualSecondsPerSecond: observed.seconds / realSeconds } : {};
        measured.push({ ...metrics, equalOutputsFraction: equal, ...pace });
      }
      const run = summarise({ ...parametersOf(config, engine), ...load }, measured);
      runs.push(run);
      progress(
        `${run.parameters.policy} under law ${run.parameters.law}, concurrency ` +
          `${load.concurrency}: ${run.metrics.outputTokensPerSecond!.toFixed(0)} tokens/s`,
      );
    }
  } finally {
    await engine.shutdown(0);
  }
  return { runs, device: measuredDevice(String(device.kind), String(device.name)) };
}

/** The part of the requests whose tokens are those of the first policy and law that ran them. */
function compareOutputs(
  outputs: Outputs,
  seed: number,
  tokens: readonly (readonly number[])[],
): number {
  const key = String(seed);
  const first = outputs.get(key);
  if (first === undefined) {
    outputs.set(key, tokens);
    return 1;
  }
  const equal = tokens.filter((each, index) => each.join() === first[index]!.join());
  return equal.length / tokens.length;
}

function parametersOf(config: EngineConfig, engine: EngineClient) {
  return {
    model: engine.card.modelPath.split('/').at(-1)!,
    device: config.device.value,
    law: lawName(config.law.value),
    policy: config.policy.value,
    weightBytes: engine.card.weightBytes,
  };
}

async function drive(
  engine: EngineClient,
  clock: Clock,
  load: Load,
  seed: number,
): Promise<Observed> {
  const observed = { gapMs: [] as number[], burstTokens: [] as number[] };
  const tokens: number[][] = Array.from({ length: load.requests }, () => []);
  const before = engine.stats();
  const startedNs = clock.nowNs();
  let next = 0;
  const worker = async () => {
    while (next < load.requests) {
      const index = next++;
      await one(engine, clock, requestOf(engine, load, seed, index), tokens[index]!, observed);
    }
  };
  await Promise.all(Array.from({ length: load.concurrency }, worker));
  const seconds = (clock.nowNs() - startedNs) / 1e9;
  return { seconds, tokens, ...observed, before, after: engine.stats() };
}

function requestOf(
  engine: EngineClient,
  load: Load,
  seed: number,
  index: number,
): GenerationRequest {
  const { vocabularySize } = engine.card;
  const number = seed * 65536 + index;
  const promptTokens = Uint32Array.from(
    { length: load.promptTokens },
    (_, position) => (hash32(number, 77, position) >>> 0) % vocabularySize,
  );
  const sampling = { ...GREEDY, maxTokens: load.outputTokens };
  return { id: `${seed}.${index}`, tenant: 'bench', promptTokens, sampling };
}

function one(
  engine: EngineClient,
  clock: Clock,
  request: GenerationRequest,
  tokens: number[],
  observed: { readonly gapMs: number[]; readonly burstTokens: number[] },
): Promise<void> {
  return new Promise((resolve, reject) => {
    let lastNs: number | undefined;
    engine.submit(request, (event) => {
      const nowNs = clock.nowNs();
      if (event.tokens.length > 0) {
        if (lastNs !== undefined) {
          observed.gapMs.push((nowNs - lastNs) / 1e6);
          observed.burstTokens.push(event.tokens.length);
        }
        lastNs = nowNs;
        tokens.push(...event.tokens);
      }
      if (event.finish?.reason === 'error') reject(new Error(event.finish.message));
      else if (event.finish !== undefined) resolve();
    });
  });
}

function metricsOf(observed: Observed, load: Load): MeasuredRun['metrics'] {
  const { seconds, before, after, gapMs, burstTokens } = observed;
  const ascending = (values: readonly number[]) => [...values].sort((a, b) => a - b);
  const interTokenMs = ascending(gapMs.map((gap, index) => gap / burstTokens[index]!));
  const bursts = ascending(gapMs);
  const tokens = load.requests * load.outputTokens;
  const total = (stats: EngineStats, field: 'crossings' | 'bytes') =>
    stats.bridge.totals.reduce((sum, entry) => sum + entry[field], 0);
  const stallNs = (stats: EngineStats) =>
    stats.bridge.lanes.find((lane) => lane.kind === 'inline')?.blockedNs ?? 0;
  const launches = (stats: EngineStats) => stats.launches + stats.graphLaunches;
  return {
    outputTokensPerSecond: tokens / seconds,
    interTokenMsP50: quantile(interTokenMs, 0.5),
    interTokenMsP99: quantile(interTokenMs, 0.99),
    burstMsP50: quantile(bursts, 0.5),
    burstMsP99: quantile(bursts, 0.99),
    tokensPerBurst: (tokens - load.requests) / Math.max(1, gapMs.length),
    crossingsPerToken: (total(after, 'crossings') - total(before, 'crossings')) / tokens,
    bytesPerToken: (total(after, 'bytes') - total(before, 'bytes')) / tokens,
    launchesPerToken: (launches(after) - launches(before)) / tokens,
    launchThreadStallFraction: (stallNs(after) - stallNs(before)) / 1e9 / seconds,
  };
}
