import type { Clock } from '@bridgekeeper/bridge';
import { hash32 } from '@bridgekeeper/device';
import {
  type EngineClient,
  type EngineStats,
  type GenerationRequest,
  GREEDY,
  type NgramOptions,
  type SamplingParams,
} from '@bridgekeeper/engine';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import {
  buildEngine,
  configureEngine,
  type EngineConfig,
  flag,
  integer,
  listOf,
  MODEL_FLAG,
  measuredDevice,
  oneOf,
  readSealPolicy,
  SETTINGS,
  settingsWith,
  text,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from './seal.ts';
import type { Suite, SuiteResult } from './suite.ts';

/**
 * What answers are made to be, whatever the model: one token again and again, one of two by chance,
 * any token by chance, or what the model says greedily, which may fall into a loop as well.
 */
const TEXTS = {
  constant: { temperature: 0, allowedTokenIds: [17] },
  'coin-flips': { temperature: 2, allowedTokenIds: [17, 19] },
  random: { temperature: 2 },
  greedy: { temperature: 0 },
} as const satisfies Record<string, Partial<SamplingParams>>;
type TextName = keyof typeof TEXTS;
const TEXT_NAMES = Object.keys(TEXTS) as readonly TextName[];

/** Nothing is drafted, where it pays, and in every step that can have drafts. */
const WAYS = ['off', 'on', 'always'] as const;

const FLAGS = {
  model: MODEL_FLAG,
  loadFormat: flag(SETTINGS.loadFormat.kind, 'auto', 'auto or dummy'),
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  law: flag(SETTINGS.law.kind, SETTINGS.law.default, SETTINGS.law.help),
  policy: flag(SETTINGS.policy.kind, SETTINGS.policy.default, SETTINGS.policy.help),
  speculativeConfig: flag(
    text('json'),
    '{"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":4,"prompt_lookup_min":2}',
    'as for serve',
  ),
  way: flag(listOf('ways', oneOf(...WAYS)), WAYS, 'off, on (where it pays), always'),
  text: flag(listOf('texts', oneOf(...TEXT_NAMES)), TEXT_NAMES, 'what answers are made to be'),
  concurrency: flag(listOf('n,n', integer(1, 65536)), [1, 4], 'requests at a time'),
  promptTokens: flag(integer(1, 2 ** 20), 512, 'tokens of each prompt'),
  outputTokens: flag(integer(1, 2 ** 20), 256, 'tokens of each answer'),
  repeats: flag(integer(1, 100), 3, 'measurements of each'),
  ...SEAL_FLAGS,
};

type SpeculationValues = Values<typeof FLAGS>;

/** What drafting by n-gram gains and costs, by how much answers repeat themselves, without HTTP. */
export const SPECULATION_SUITE: Suite<typeof FLAGS> = {
  name: 'speculation',
  summary: 'tokens a second with and without drafts by n-gram, by what answers are made to be',
  flags: FLAGS,
  async run(values, progress) {
    const outputs: Outputs = new Map();
    const results: SuiteResult[] = [];
    for (const way of values.way) {
      results.push(await measureWay(values, way, outputs, progress));
    }
    return { device: results[0]!.device, runs: results.flatMap(({ runs }) => runs) };
  },
};

/** The tokens of each load's requests as the first way gave them. */
type Outputs = Map<string, readonly (readonly number[])[]>;

async function configOf(
  values: SpeculationValues,
  way: (typeof WAYS)[number],
): Promise<EngineConfig> {
  const { model, loadFormat, device, law, policy, speculativeConfig } = values;
  const settings = settingsWith({
    model,
    loadFormat,
    device,
    law,
    policy,
    speculativeConfig,
    maxNumSeqs: Math.max(...values.concurrency),
    maxModelLen: values.promptTokens + values.outputTokens,
  });
  const config = configureEngine(settings, await readSealPolicy(values));
  const { speculation, ...limits } = config.limits;
  if (way === 'off' || speculation === undefined) return { ...config, limits };
  const options: NgramOptions = way === 'on' ? speculation : { ...speculation, always: true };
  return { ...config, limits: { ...limits, speculation: options } };
}

async function measureWay(
  values: SpeculationValues,
  way: (typeof WAYS)[number],
  outputs: Outputs,
  progress: (line: string) => void,
): Promise<SuiteResult> {
  const config = await configOf(values, way);
  const { engine, clock } = await buildEngine(config);
  const runs: MeasuredRun[] = [];
  const { device } = engine.card;
  try {
    for (const concurrency of values.concurrency) {
      // What steps of this size take is learnt before it counts.
      await drive(engine, clock, values, { text: 'constant', concurrency, seed: 0 });
      for (const name of values.text) {
        const measured: MeasuredRun['metrics'][] = [];
        for (let repeat = 0; repeat < values.repeats; repeat++) {
          const seed = 1 + repeat;
          const observed = await drive(engine, clock, values, { text: name, concurrency, seed });
          const equal = compare(outputs, `${name} ${concurrency} ${seed}`, observed.tokens);
          measured.push({ ...metricsOf(observed), equalOutputsFraction: equal });
        }
        const run = summarise(
          {
            model: engine.card.modelPath.split('/').at(-1)!,
            device: config.device.value,
            law: engine.card.law,
            policy: engine.card.policy,
            speculation: way,
            text: name,
            concurrency,
            promptTokens: values.promptTokens,
            outputTokens: values.outputTokens,
          },
          measured,
        );
        runs.push(run);
        progress(lineOf(run, engine.stats()));
      }
    }
  } finally {
    await engine.shutdown(0);
  }
  return { runs, device: measuredDevice(String(device.kind), String(device.name)) };
}

/** The part of the requests whose tokens are those of the first way. */
function compare(outputs: Outputs, key: string, tokens: readonly (readonly number[])[]): number {
  const first = outputs.get(key);
  if (first === undefined) {
    outputs.set(key, tokens);
    return 1;
  }
  return tokens.filter((each, i) => each.join() === first[i]!.join()).length / tokens.length;
}

interface Observed {
  /** From the first token of the last request that began to the end of all. */
  readonly seconds: number;
  readonly counted: number;
  readonly tokens: readonly (readonly number[])[];
  readonly before: EngineStats;
  readonly after: EngineStats;
}

/** Requests that are begun together. Their prompts are not counted: drafts do not help there. */
async function drive(
  engine: EngineClient,
  clock: Clock,
  { promptTokens, outputTokens }: SpeculationValues,
  how: { readonly text: TextName; readonly concurrency: number; readonly seed: number },
): Promise<Observed> {
  const { concurrency } = how;
  const tokens: number[][] = Array.from({ length: concurrency }, () => []);
  let waiting = concurrency;
  let sinceNs = 0;
  let before = engine.stats();
  let early = 0;
  const one = (index: number) =>
    new Promise<void>((resolve, reject) => {
      engine.submit(requestOf(engine, how, index, promptTokens, outputTokens), (event) => {
        const own = tokens[index]!;
        if (own.length === 0 && event.tokens.length > 0 && --waiting === 0) {
          sinceNs = clock.nowNs();
          before = engine.stats();
          early = tokens.reduce((sum, { length }) => sum + length, event.tokens.length);
        }
        own.push(...event.tokens);
        if (event.finish?.reason === 'error') reject(new Error(event.finish.message));
        else if (event.finish !== undefined) resolve();
      });
    });
  await Promise.all(Array.from({ length: concurrency }, (_, index) => one(index)));
  const seconds = (clock.nowNs() - sinceNs) / 1e9;
  const counted = tokens.reduce((sum, { length }) => sum + length, -early);
  return { seconds, counted, tokens, before, after: engine.stats() };
}

function requestOf(
  engine: EngineClient,
  { text: name, concurrency, seed }: Parameters<typeof drive>[3],
  index: number,
  promptTokens: number,
  maxTokens: number,
): GenerationRequest {
  const { vocabularySize } = engine.card;
  const number = seed * 65536 + index;
  const prompt = Uint32Array.from(
    { length: promptTokens },
    (_, position) => (hash32(number, 79, position) >>> 0) % vocabularySize,
  );
  const sampling = { ...GREEDY, ...TEXTS[name], maxTokens, seed: BigInt(number) };
  const id = `${name}.${concurrency}.${seed}.${index}`;
  return { id, tenant: id, promptTokens: prompt, sampling };
}

function metricsOf({ seconds, counted, before, after }: Observed): MeasuredRun['metrics'] {
  const since = (field: 'drafts' | 'draftTokens' | 'acceptedTokens') =>
    (after.speculation?.[field] ?? 0) - (before.speculation?.[field] ?? 0);
  const drafts = since('drafts');
  return {
    outputTokensPerSecond: counted / seconds,
    draftsPerToken: drafts / counted,
    acceptedPerDraft: drafts === 0 ? 0 : since('acceptedTokens') / drafts,
    tokensPerStep: counted / Math.max(1, after.steps - before.steps),
    stepsPerLaunch: after.stepsPerLaunch,
    stepMs: (1e3 * seconds) / Math.max(1, after.steps - before.steps),
  };
}

function lineOf({ parameters, metrics }: MeasuredRun, { speculation }: EngineStats): string {
  const { speculation: way, text: name, concurrency } = parameters;
  const why = speculation === undefined ? '' : ` (${speculation.reason})`;
  return (
    `drafts ${way}, ${name} text, ${concurrency} at a time: ` +
    `${metrics.outputTokensPerSecond!.toFixed(1)} tokens/s, ` +
    `${metrics.acceptedPerDraft!.toFixed(2)} accepted a draft${why}`
  );
}
