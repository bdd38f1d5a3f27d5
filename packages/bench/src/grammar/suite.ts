import { hash32 } from '@bridgekeeper/device';
import {
  type CompiledGrammar,
  type Engine,
  type EngineOptions,
  type EngineStats,
  type GenerationRequest,
  GREEDY,
} from '@bridgekeeper/engine';
import {
  type HostMaskTimes,
  measureDeviceMasks,
  measureHostMasks,
  measureMasks,
  type PreparedModel,
  prepareModel,
  startEngine,
} from '@bridgekeeper/engine/measure';
import { readModelSpec } from '@bridgekeeper/engine/models';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import {
  configureEngine,
  type EngineConfig,
  engineOptions,
  flag,
  integer,
  lawName,
  listOf,
  MODEL_FLAG,
  measuredDevice,
  onOff,
  openDevice,
  readSealPolicy,
  SETTINGS,
  settingsWith,
  text,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from '../seal.ts';
import type { Suite, SuiteResult } from '../suite.ts';
import { jsonLines } from './json-lines.ts';
import { madeUpVocabulary } from './made-up-vocabulary.ts';
import { xgrammarMasks } from './xgrammar.ts';

const FLAGS = {
  model: MODEL_FLAG,
  loadFormat: flag(SETTINGS.loadFormat.kind, 'auto', 'auto or dummy'),
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  law: flag(listOf('laws', SETTINGS.law.kind), ['auto'], 'laws, separated by commas'),
  policy: flag(SETTINGS.policy.kind, 'auto', 'step policy'),
  rows: flag(listOf('n,n', integer(1, 4096)), [1, 8], 'requests at a time'),
  grammars: flag(integer(1, 4096), 1, 'different grammars that the requests have'),
  promptTokens: flag(integer(1, 2 ** 20), 32, 'tokens of each prompt'),
  outputTokens: flag(integer(1, 2 ** 20), 128, 'tokens of each answer'),
  repeats: flag(integer(1, 100), 3, 'measurements of each'),
  hostMasks: flag(onOff(), true, 'measure bare steps with masks of device and host, too'),
  xgrammar: flag(text('folder'), undefined, 'of @mlc-ai/web-xgrammar: bare steps with its masks'),
  ...SEAL_FLAGS,
};

type GrammarValues = Values<typeof FLAGS>;

/** Room for so many grammars: those of this suite take some tens of kilobytes. */
const POOL_BYTES = 32 * 2 ** 20;

/** What requests are held to. */
const CONSTRAINTS = ['none', 'flat', 'nested'] as const;
type Constraint = (typeof CONSTRAINTS)[number];

/** Answers held to a grammar beside free ones, in one run, without HTTP. */
export const GRAMMAR_SUITE: Suite<typeof FLAGS> = {
  name: 'grammar',
  summary: 'throughput and crossings of requests with a grammar beside free ones, without HTTP',
  flags: FLAGS,
  async run(values, progress) {
    const seal = await readSealPolicy(values);
    const results: SuiteResult[] = [];
    for (const law of values.law) {
      const settings = settingsWith({
        model: values.model,
        loadFormat: values.loadFormat,
        device: values.device,
        law,
        policy: values.policy,
        maxNumSeqs: Math.max(...values.rows),
        maxModelLen: values.promptTokens + values.outputTokens,
      });
      results.push(await measureUnder(configureEngine(settings, seal), values, progress));
    }
    return { device: results[0]!.device, runs: results.flatMap((result) => result.runs) };
  },
};

async function measureUnder(
  config: EngineConfig,
  values: GrammarValues,
  progress: (line: string) => void,
): Promise<SuiteResult> {
  const device = await openDevice(config);
  const { kind, name } = device.info;
  let engine: Engine | undefined;
  try {
    const plain = engineOptions(config, device);
    const { vocabularySize } = await readModelSpec(values.model);
    const vocabulary = madeUpVocabulary(vocabularySize);
    const options: EngineOptions = { ...plain, grammars: { vocabulary, poolBytes: POOL_BYTES } };
    const model = await prepareModel(options);
    const parameters = {
      model: values.model.split('/').at(-1)!,
      device: config.device.value,
      law: lawName(config.law.value),
      vocabulary: vocabularySize,
    };
    const runs: MeasuredRun[] = [];
    const add = (run: MeasuredRun) => {
      runs.push({ ...run, parameters: { ...parameters, ...run.parameters } });
      progress(lineOf(run));
    };
    for (const rows of values.rows) {
      for (const run of await maskRuns(options, model, rows, values.repeats)) add(run);
    }
    if (values.hostMasks && kind !== 'model') {
      for (const rows of values.rows) {
        for (const run of await maskedDecodeRuns(options, model, rows, values)) add(run);
      }
    }
    engine = await startEngine(options, model);
    for (const rows of values.rows) {
      for (const run of await engineRuns(engine, options, rows, values)) add(run);
    }
    return { runs, device: measuredDevice(kind, name) };
  } finally {
    if (engine === undefined) await device.close();
    else await engine.shutdown(0);
  }
}

/** The kernel alone: where all tokens of text are tried to their end, where few are, and none. */
async function maskRuns(
  { device, grammars }: EngineOptions,
  model: PreparedModel,
  rows: number,
  repeats: number,
): Promise<MeasuredRun[]> {
  const grammar = jsonLines('nested', 0);
  const idOf = (text: string) => text.charCodeAt(0);
  const inString = [idOf('"')];
  const places = [
    ['in a string', inString],
    ['at a value', []],
    ['no grammar', null],
  ] as const;
  if (grammars === undefined) return [];
  const runs: MeasuredRun[] = [];
  for (const [place, tokens] of places) {
    const ns = await measureMasks(device, model, { rows, grammar, tokens, repeats });
    const parameters = { measured: 'mask kernel', rows, constraint: place };
    runs.push(summarise(parameters, [{ maskUs: ns / 1e3 }]));
  }
  return runs;
}

/** The same bare decode steps with masks from either side. */
async function maskedDecodeRuns(
  { device }: EngineOptions,
  model: PreparedModel,
  rows: number,
  { promptTokens, outputTokens, repeats, xgrammar }: GrammarValues,
): Promise<MeasuredRun[]> {
  const setting = {
    batch: rows,
    grammar: jsonLines('flat', 0),
    contextTokens: promptTokens,
    steps: outputTokens,
    repeats,
  };
  const parameters = { rows, constraint: 'flat' };
  const rate = (stepNs: number) => ({ outputTokensPerSecond: (rows * 1e9) / stepNs });
  const byDevice = await measureDeviceMasks(device, model, setting);
  const hostRun = (measured: string, { stepNs, masks, maskNs }: HostMaskTimes) =>
    summarise(
      { measured, ...parameters },
      stepNs.map((ns) => ({ ...rate(ns), masks, maskMs: maskNs / 1e6 })),
    );
  const known = await measureHostMasks(device, model, setting);
  const runs = [
    summarise({ measured: 'steps, masks of the device', ...parameters }, byDevice.map(rate)),
    hostRun('steps, masks of the host', known),
  ];
  if (xgrammar === undefined) return runs;
  const peer = await xgrammarMasks(xgrammar, model.parts.spec.vocabularySize);
  const made = await measureHostMasks(device, model, setting, peer);
  return [...runs, hostRun('steps, masks of XGrammar', made)];
}

/** Each constraint in turn, again and again: what changes meanwhile changes all of them. */
async function engineRuns(
  engine: Engine,
  { device }: EngineOptions,
  rows: number,
  values: GrammarValues,
): Promise<MeasuredRun[]> {
  const measured = new Map<Constraint, MeasuredRun['metrics'][]>(
    CONSTRAINTS.map((constraint) => [constraint, []]),
  );
  for (let repeat = 0; repeat <= values.repeats; repeat++) {
    let free = 0;
    for (const [at, constraint] of CONSTRAINTS.entries()) {
      // Prompts of their own: none finds the prefix of another.
      const first = (repeat * CONSTRAINTS.length + at) * rows;
      const grammars = grammarsOf(constraint, Math.min(values.grammars, rows));
      const requests = Array.from({ length: rows }, (_, index) =>
        requestOf(engine, values, `${repeat}.${constraint}.${index}`, first + index, grammars),
      );
      const before = engine.stats();
      const startedNs = device.clock.nowNs();
      await Promise.all(requests.map((request) => finished(engine, request)));
      const seconds = (device.clock.nowNs() - startedNs) / 1e9;
      const tokens = rows * values.outputTokens;
      const outputTokensPerSecond = tokens / seconds;
      if (constraint === 'none') free = outputTokensPerSecond;
      // The first round warms up.
      if (repeat === 0) continue;
      measured.get(constraint)!.push({
        outputTokensPerSecond,
        ofFree: outputTokensPerSecond / free,
        ...crossed(before, engine.stats(), tokens),
      });
    }
  }
  return CONSTRAINTS.map((constraint) =>
    summarise({ measured: 'engine', rows, constraint }, measured.get(constraint)!),
  );
}

function grammarsOf(constraint: Constraint, count: number): readonly CompiledGrammar[] {
  if (constraint === 'none') return [];
  return Array.from({ length: count }, (_, number) => jsonLines(constraint, number));
}

function requestOf(
  engine: Engine,
  { promptTokens, outputTokens }: GrammarValues,
  id: string,
  number: number,
  grammars: readonly CompiledGrammar[],
): GenerationRequest {
  const { vocabularySize } = engine.card;
  const prompt = Uint32Array.from(
    { length: promptTokens },
    (_, position) => (hash32(number, 78, position) >>> 0) % vocabularySize,
  );
  const sampling = { ...GREEDY, temperature: 1, seed: BigInt(number), maxTokens: outputTokens };
  const request = { id, tenant: 'bench', promptTokens: prompt, sampling };
  const grammar = grammars[number % grammars.length];
  return grammar === undefined ? request : { ...request, grammar };
}

/** Resolves when the request has had all its tokens. */
function finished(engine: Engine, request: GenerationRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    engine.submit(request, ({ finish }) => {
      if (finish?.reason === 'length') resolve();
      else if (finish !== undefined) reject(new Error(finish.message ?? finish.reason));
    });
  });
}

function crossed(before: EngineStats, after: EngineStats, tokens: number): MeasuredRun['metrics'] {
  const sum = (stats: EngineStats, isCounted: (purpose: string) => boolean) =>
    stats.bridge.totals
      .filter(({ purpose }) => isCounted(purpose))
      .reduce((all, { crossings }) => all + crossings, 0);
  const grown = (isCounted: (purpose: string) => boolean) =>
    sum(after, isCounted) - sum(before, isCounted);
  return {
    crossingsPerToken: grown((purpose) => purpose !== 'grammar') / tokens,
    grammarCrossings: grown((purpose) => purpose === 'grammar'),
  };
}

function lineOf({ parameters, metrics }: MeasuredRun): string {
  const { measured, rows, constraint } = parameters;
  const rate = metrics.outputTokensPerSecond;
  const figure =
    rate === undefined ? `${metrics.maskUs!.toFixed(1)} us` : `${rate.toFixed(0)} tokens/s`;
  return `${measured}, ${rows} rows, ${constraint}: ${figure}`;
}
