import type { Clock } from '@bridgekeeper/bridge';
import { hash32, SystemClock } from '@bridgekeeper/device';
import { type EngineClient, type EngineStats, GREEDY } from '@bridgekeeper/engine';
import { buildEngine } from '../engine/build.ts';
import { lawName, planEngine } from '../engine/choose.ts';
import type { EnginePlan } from '../engine/plan.ts';
import { integer, text, texts } from '../settings/kinds.ts';
import { resolveSettings, UsageError } from '../settings/resolve.ts';
import { SETTINGS } from '../settings/table.ts';
import { type BenchRun, quantile, summarise } from './result.ts';
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
  readonly interTokenMs: number[];
  readonly before: EngineStats;
  readonly after: EngineStats;
}

interface Values {
  readonly model: string;
  readonly 'load-format': string;
  readonly device: string;
  readonly law: readonly string[];
  readonly policy: string;
  readonly concurrency: readonly string[];
  readonly 'prompt-tokens': number;
  readonly 'output-tokens': number;
  readonly 'max-model-len': number;
  readonly repeats: number;
}

/** Throughput of step policies under laws, side by side, without HTTP. */
export const POLICIES_SUITE: Suite = {
  name: 'policies',
  summary: 'decode throughput and crossings by law and concurrency, without HTTP',
  plot: {
    title: 'Output tokens per second by concurrency and law',
    x: 'concurrency',
    y: 'outputTokensPerSecond',
    series: 'law',
  },
  parameters: {
    model: { kind: text('folder'), default: SETTINGS.model.default, help: 'model folder' },
    'load-format': { kind: SETTINGS.loadFormat.kind, default: 'auto', help: 'auto or dummy' },
    device: { kind: SETTINGS.device.kind, default: 'auto', help: 'where the model runs' },
    law: { kind: texts('laws'), default: 'auto', help: 'laws, separated by commas' },
    policy: { kind: SETTINGS.policy.kind, default: 'auto', help: 'step policy' },
    concurrency: { kind: texts('n,n'), default: '1,8', help: 'requests at a time' },
    'prompt-tokens': { kind: integer(1, 2 ** 20), default: '32', help: 'tokens of each prompt' },
    'output-tokens': { kind: integer(1, 2 ** 20), default: '128', help: 'tokens of each answer' },
    'max-model-len': { kind: integer(0, 2 ** 31), default: '0', help: '0: what the loads need' },
    repeats: { kind: integer(1, 100), default: '3', help: 'measurements of each' },
  },
  async run(values, progress) {
    const wanted = values as unknown as Values;
    const loads = wanted.concurrency.map((each) => loadOf(each, wanted));
    const results: SuiteResult[] = [];
    for (const law of wanted.law) {
      const plan = planOf(wanted, law, loads);
      results.push(await benchPolicy(plan, loads, wanted.repeats, progress));
    }
    return { device: results[0]!.device, runs: results.flatMap((result) => result.runs) };
  },
};

function loadOf(concurrency: string, values: Values): Load {
  const requests = Number(concurrency);
  if (!Number.isInteger(requests) || requests < 1 || requests > 65536) {
    throw new UsageError('bad-value', `--concurrency: ${concurrency} is not a whole number`);
  }
  return {
    concurrency: requests,
    requests,
    promptTokens: values['prompt-tokens'],
    outputTokens: values['output-tokens'],
  };
}

function planOf(values: Values, law: string, loads: readonly Load[]): EnginePlan {
  const rows = Math.max(...loads.map((load) => load.concurrency));
  const needed = values['prompt-tokens'] + values['output-tokens'];
  const flags = {
    model: values.model,
    loadFormat: values['load-format'],
    device: values.device,
    law,
    policy: values.policy,
    maxNumSeqs: String(rows),
    maxModelLen: String(values['max-model-len'] || needed),
  };
  return planEngine(resolveSettings({ flags, environment: {}, readFile: () => '' }).settings);
}

/** Measures one plan in this thread: `repeats` times for each load, after one short warm-up. */
async function benchPolicy(
  plan: EnginePlan,
  loads: readonly Load[],
  repeats: number,
  progress: (line: string) => void,
): Promise<SuiteResult> {
  const realClock = new SystemClock();
  const { engine, clock } = await buildEngine(plan);
  const runs: BenchRun[] = [];
  const { device } = engine.card;
  try {
    await drive(engine, clock, { ...loads[0]!, requests: 1, outputTokens: 4 }, 0);
    for (const [index, load] of loads.entries()) {
      const measured: BenchRun['metrics'][] = [];
      for (let repeat = 0; repeat < repeats; repeat++) {
        const seed = 1 + index * repeats + repeat;
        const startedNs = realClock.nowNs();
        const observed = await drive(engine, clock, load, seed);
        const realSeconds = (realClock.nowNs() - startedNs) / 1e9;
        measured.push(metricsOf(observed, load, realSeconds, plan.device.value === 'model'));
      }
      const run = summarise({ ...parametersOf(plan, engine), ...load }, measured);
      runs.push(run);
      progress(
        `law ${run.parameters.law}, concurrency ${load.concurrency}: ` +
          `${run.metrics.outputTokensPerSecond!.toFixed(0)} tokens/s`,
      );
    }
  } finally {
    await engine.shutdown(0);
  }
  const driver = 'driver' in device ? String(device.driver) : null;
  return { runs, device: { name: String(device.name), driver } };
}

function parametersOf(plan: EnginePlan, engine: EngineClient) {
  return {
    model: engine.card.modelPath.split('/').at(-1)!,
    device: plan.device.value,
    law: lawName(plan.law.value),
    policy: plan.policy.value,
    weightBytes: engine.card.weightBytes,
  };
}

async function drive(
  engine: EngineClient,
  clock: Clock,
  load: Load,
  seed: number,
): Promise<Observed> {
  const interTokenMs: number[] = [];
  const before = engine.stats();
  const startedNs = clock.nowNs();
  let next = 0;
  const worker = async () => {
    while (next < load.requests) {
      const index = next++;
      await one(engine, clock, load, `${seed}.${index}`, seed * 65536 + index, interTokenMs);
    }
  };
  await Promise.all(Array.from({ length: load.concurrency }, worker));
  const seconds = (clock.nowNs() - startedNs) / 1e9;
  return { seconds, interTokenMs, before, after: engine.stats() };
}

function one(
  engine: EngineClient,
  clock: Clock,
  load: Load,
  id: string,
  seed: number,
  interTokenMs: number[],
): Promise<void> {
  const { vocabularySize } = engine.card;
  const promptTokens = Uint32Array.from(
    { length: load.promptTokens },
    (_, index) => (hash32(seed, 77, index) >>> 0) % vocabularySize,
  );
  const sampling = { ...GREEDY, maxTokens: load.outputTokens };
  return new Promise((resolve, reject) => {
    let lastNs: number | undefined;
    engine.submit({ id, tenant: 'bench', promptTokens, sampling }, (event) => {
      const nowNs = clock.nowNs();
      if (event.tokens.length > 0) {
        if (lastNs !== undefined) interTokenMs.push((nowNs - lastNs) / 1e6);
        lastNs = nowNs;
      }
      if (event.finish?.reason === 'error') reject(new Error(event.finish.message));
      else if (event.finish !== undefined) resolve();
    });
  });
}

function metricsOf(
  observed: Observed,
  load: Load,
  realSeconds: number,
  virtual: boolean,
): BenchRun['metrics'] {
  const { seconds, before, after } = observed;
  const sorted = observed.interTokenMs.sort((a, b) => a - b);
  const tokens = load.requests * load.outputTokens;
  const crossed = (field: 'crossings' | 'bytes' | 'blockedNs') =>
    total(after, field) - total(before, field);
  return {
    outputTokensPerSecond: tokens / seconds,
    interTokenMsP50: quantile(sorted, 0.5),
    interTokenMsP99: quantile(sorted, 0.99),
    crossingsPerToken: crossed('crossings') / tokens,
    bytesPerToken: crossed('bytes') / tokens,
    launchThreadStallFraction: crossed('blockedNs') / 1e9 / seconds,
    launchesPerToken:
      (after.launches + after.graphLaunches - before.launches - before.graphLaunches) / tokens,
    ...(virtual ? { virtualSecondsPerSecond: seconds / realSeconds } : {}),
  };
}

function total(stats: EngineStats, field: 'crossings' | 'bytes' | 'blockedNs'): number {
  return stats.bridge.totals.reduce((sum, entry) => sum + entry[field], 0);
}
