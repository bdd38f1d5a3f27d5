import {
  DEFAULT_FLAGS,
  driveEngine,
  knownGpu,
  knownModel,
  LoadObserver,
  type Prediction,
  simulate,
} from '@bridgekeeper/planner';
import { columns, type MeasuredRun } from '@bridgekeeper/report';
import {
  buildEngine,
  chooseLaw,
  configureEngine,
  type EngineConfig,
  flag,
  lawName,
  listOf,
  MODEL_FLAG,
  measuredDevice,
  oneOf,
  readSealPolicy,
  SETTINGS,
  settingsWith,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from '../seal.ts';
import type { Suite, SuiteResult } from '../suite.ts';
import { LOAD_NAMES, LOADS, type LoadName, warmUp, workloadOf } from './loads.ts';

const FLAGS = {
  model: { ...MODEL_FLAG, default: undefined },
  loadFormat: flag(SETTINGS.loadFormat.kind, 'dummy', 'auto or dummy'),
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  law: flag(
    listOf('laws', SETTINGS.law.kind),
    ['off', 'emulate:b300-cc', 'emulate:h100-cc'],
    'laws, separated by commas',
  ),
  policy: flag(
    listOf('policies', SETTINGS.policy.kind),
    ['overlap', 'drain-first', 'drain-worker', 'resident'],
    'step policies, separated by commas',
  ),
  load: flag(listOf('loads', oneOf(...LOAD_NAMES)), LOAD_NAMES, 'loads, separated by commas'),
  measured: flag(text('file'), undefined, 'a result of this suite, to be predicted, not measured'),
  gpu: flag(text('name'), 'h200', 'the GPU that it was measured on'),
  ...SEAL_FLAGS,
};

type PlanValues = Values<typeof FLAGS>;

const MAX_ROWS = 128;
const MAX_MODEL_TOKENS = 2048;

/** What the planner predicts, and what the engine does, with the same loads and random numbers. */
export const PLAN_SUITE: Suite<typeof FLAGS> = {
  name: 'plan',
  summary: 'the loads that the planner is held to: measured, or predicted beside what was measured',
  flags: FLAGS,
  run(values, progress, io) {
    const { measured } = values;
    return measured === undefined
      ? measure(values, progress)
      : compare(readRuns(io.readFile(measured), measured), values.gpu, progress);
  },
};

async function measure(values: PlanValues, progress: (line: string) => void): Promise<SuiteResult> {
  const runs: MeasuredRun[] = [];
  let device = measuredDevice(String(values.device), String(values.device));
  for (const law of values.law) {
    for (const policy of values.policy) {
      const { model, loadFormat, device: kind } = values;
      if (model === undefined) {
        throw new UsageError('bad-value', '--model: name the folder of the model to be measured');
      }
      const settings = settingsWith({
        model,
        loadFormat,
        device: kind,
        law,
        policy,
        maxNumSeqs: MAX_ROWS,
        maxModelLen: MAX_MODEL_TOKENS,
        maxNumBatchedTokens: MAX_MODEL_TOKENS,
        // Loads begin alike, and are to compute all of their prompts.
        enablePrefixCaching: false,
      });
      const config = configureEngine(settings, await readSealPolicy(values));
      const { engine, clock } = await buildEngine(config);
      try {
        const card = engine.card.device;
        device = measuredDevice(String(card.kind), String(card.name));
        for (const load of values.load) {
          const unseen = new LoadObserver({ warmupRequests: 0, slo: null });
          await driveEngine(engine, clock, warmUp(), unseen, `before ${load}`);
          const observer = new LoadObserver({ warmupRequests: 0, slo: null });
          await driveEngine(engine, clock, workloadOf(load), observer, load);
          const parameters = parametersOf(config, load, engine.card.pageTokens);
          const { chunkTokens, stepsPerLaunch } = engine.stats();
          const metrics = { ...metricsOf(observer.summary()), chunkTokens, stepsPerLaunch };
          runs.push({ parameters, metrics, repeats: 1, spread: {} });
          progress(lineOf(runs.at(-1)!));
        }
      } finally {
        await engine.shutdown(0);
      }
    }
  }
  return { device, runs };
}

function parametersOf(config: EngineConfig, load: LoadName, pageTokens: number) {
  return {
    model: config.model.split('/').at(-1)!,
    device: config.device.value,
    law: lawName(config.law.value),
    policy: config.policy.value,
    load,
    spec: LOADS[load].spec,
    seed: LOADS[load].seed,
    pageTokens,
  };
}

type Seen = Pick<Prediction, 'outputTokensPerSecond' | 'ttftMs' | 'itlMs' | 'e2eMs' | 'seconds'>;

function metricsOf({ outputTokensPerSecond, ttftMs, itlMs, e2eMs, seconds }: Seen) {
  return {
    outputTokensPerSecond,
    ttftMsP50: ttftMs.p50,
    ttftMsMean: ttftMs.mean,
    ttftMsP90: ttftMs.p90,
    ttftMsP99: ttftMs.p99,
    itlMsP50: itlMs.p50,
    itlMsP99: itlMs.p99,
    e2eMsP50: e2eMs.p50,
    seconds,
  };
}

function lineOf({ parameters, metrics }: MeasuredRun): string {
  return (
    `${parameters.law}, ${parameters.policy}, ${parameters.load}: ` +
    `${metrics.outputTokensPerSecond!.toFixed(0)} tokens/s, TTFT ` +
    `${metrics.ttftMsP50!.toFixed(1)} ms, ITL ${metrics.itlMsP50!.toFixed(2)} ms`
  );
}

/** The runs of a result of this suite. Throws UsageError. */
function readRuns(document: string, path: string): readonly MeasuredRun[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(document);
  } catch (cause) {
    throw new UsageError('bad-file', `--measured ${path}: is not JSON`, { cause });
  }
  const { suite, runs } = (parsed ?? {}) as { suite?: unknown; runs?: unknown };
  if (suite !== PLAN_SUITE.name || !Array.isArray(runs)) {
    throw new UsageError(
      'bad-file',
      `--measured ${path}: is no result of bench ${PLAN_SUITE.name}`,
    );
  }
  const isKnown = ({ parameters }: Partial<MeasuredRun>) =>
    LOAD_NAMES.includes(parameters?.load as LoadName);
  if (!(runs as MeasuredRun[]).every(isKnown)) {
    throw new UsageError('bad-file', `--measured ${path}: has loads that this build does not have`);
  }
  return runs as readonly MeasuredRun[];
}

/** Of those that are compared. */
const COMPARED = ['outputTokensPerSecond', 'ttftMsP50', 'itlMsP50'] as const;
const WITHIN = 0.1;

async function compare(
  measured: readonly MeasuredRun[],
  gpu: string,
  progress: (line: string) => void,
): Promise<SuiteResult> {
  const runs: MeasuredRun[] = [];
  for (const run of measured) {
    const { model, law, policy, load, pageTokens } = run.parameters;
    const prediction = await simulate({
      model: knownModel(String(model)),
      gpu: knownGpu(gpu),
      law: law === 'off' ? null : chooseLaw(`emulate:${law}`, 'model').value,
      engine: `bridgekeeper-${policy}` as Prediction['engine'],
      flags: {
        ...DEFAULT_FLAGS,
        maxModelTokens: MAX_MODEL_TOKENS,
        maxRows: MAX_ROWS,
        maxBatchTokens: MAX_MODEL_TOKENS,
        pageTokens: Number(pageTokens),
      },
      workload: workloadOf(load as LoadName),
      warmup: warmUp(),
      slo: null,
      warmupRequests: 0,
      window: null,
      seed: 0,
    });
    const predicted = metricsOf(prediction);
    const metrics: Record<string, number> = {};
    for (const name of COMPARED) {
      metrics[name] = run.metrics[name]!;
      metrics[`${name}Predicted`] = predicted[name];
      metrics[`${name}Error`] = predicted[name] / run.metrics[name]! - 1;
    }
    runs.push({ parameters: run.parameters, metrics, repeats: 1, spread: {} });
    progress(lineOf(run));
  }
  return { device: measuredDevice('model', gpu), runs, text: tableText(runs) };
}

function tableText(runs: readonly MeasuredRun[]): string {
  const cell = (metrics: MeasuredRun['metrics'], name: string) => {
    const digits = name === 'outputTokensPerSecond' ? 0 : 2;
    const percent = (100 * metrics[`${name}Error`]!).toFixed(1);
    const [was, now] = [metrics[name]!, metrics[`${name}Predicted`]!];
    return `${was.toFixed(digits)} ${now.toFixed(digits)} ${percent} %`;
  };
  const rows = runs.map(({ parameters, metrics }) => [
    String(parameters.law),
    String(parameters.policy),
    String(parameters.load),
    ...COMPARED.map((name) => cell(metrics, name)),
  ]);
  const errors = runs.flatMap(({ metrics }) => COMPARED.map((name) => metrics[`${name}Error`]!));
  const within = errors.filter((error) => Math.abs(error) <= WITHIN).length;
  const head = ['law', 'policy', 'load', 'tokens/s: measured, predicted', 'TTFT p50', 'ITL p50'];
  return [
    ...columns([head, ...rows]),
    '',
    `${within} of ${errors.length} figures are within ${100 * WITHIN} % of what was measured.`,
  ].join('\n');
}
