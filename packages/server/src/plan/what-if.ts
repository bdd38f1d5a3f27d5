import { type Profile, referenceProfile } from '@bridgekeeper/bridge';
import type { Gpu, PlannedModel, Prediction, Scenario } from '@bridgekeeper/planner';
import type { RunAll } from './planning.ts';

type Planner = typeof import('@bridgekeeper/planner');
type EngineName = Scenario['engine'];

/** What was served lately: means of the requests that have ended. */
export interface Traffic {
  readonly requests: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Open at a time, on average. */
  readonly concurrency: number;
  /** Between two tokens of a request. */
  readonly tokenNs: number;
}

/** The same traffic under one policy and one law. */
export interface WhatIf {
  readonly policy: string;
  readonly law: string;
  /** It is what is in force. */
  readonly isNow: boolean;
  /** Between two tokens of a request, mean. */
  readonly tokenNs: number;
  /** Of an average step, what the GPU waits for the bridge: tolls, bytes, launches, threads. */
  readonly bridgeNs: number;
  readonly crossingsPerToken: number;
  readonly bytesPerToken: number;
}

export interface WhatIfQuestion {
  readonly traffic: Traffic;
  readonly model: PlannedModel;
  /** By its own name; null: it is none that the planner knows, and another is made as slow. */
  readonly gpuName: string | null;
  readonly policy: string;
  /** In force; null: there is none. */
  readonly law: Profile | null;
  readonly maxRows: number;
  readonly pageTokens: number;
}

export interface WhatIfAnswer {
  /** Which GPU was modelled, and how many times slower than it this machine's steps are. */
  readonly gpu: string;
  readonly slower: number;
  readonly rows: readonly WhatIf[];
}

/** Of the load that is simulated: a picture of the traffic, not all of it. */
const REQUESTS = 24;
const PROMPT_TOKENS_MAX = 2_048;
const OUTPUT_TOKENS_MAX = 96;
const CONCURRENCY_MAX = 16;
const STAND_IN = 'h100';
/** Not all of a step grows with what kernels take: each fit mends the one before. */
const FITS = 3;
const FIT_MAX = 1e4;
/** Beside the law in force and none at all. */
const OTHER_LAWS = ['b300-cc', 'h100-cc'] as const;

/**
 * What the traffic would pay under each policy of the law in force, and under other laws with the
 * policy in force. What kernels take is fitted to what was measured, so that what differs is the
 * bridge alone. Throws PlanError.
 */
export async function whatIf(
  question: WhatIfQuestion,
  planner: Planner,
  runAll: RunAll,
  onProgress: (done: number, total: number) => void,
): Promise<WhatIfAnswer> {
  const { traffic, law } = question;
  const engines = planner.enginesOf(['bridgekeeper']);
  const current = engines.find((name) => name === `bridgekeeper-${question.policy}`) ?? engines[0]!;
  const gpu = gpuOf(question, planner);
  const total = FITS + engines.length + lawsBeside(law).length;
  let done = 0;
  const tell = () => {
    done += 1;
    onProgress(done, total);
  };
  onProgress(0, total);
  let slower = 1;
  for (let fit = 0; fit < FITS; fit++) {
    const tried = scenarioOf(question, planner, slowed(gpu, slower), law, current);
    const [prediction] = await runAll([tried], tell);
    slower *= missOf(prediction!, traffic.tokenNs);
  }
  const fitted = slowed(gpu, slower);
  const wanted: readonly (readonly [EngineName, Profile | null])[] = [
    [current, law],
    ...engines.filter((name) => name !== current).map((name) => [name, law] as const),
    ...lawsBeside(law).map((other) => [current, other] as const),
  ];
  const scenarios = wanted.map(([engine, each]) =>
    scenarioOf(question, planner, fitted, each, engine),
  );
  const predictions = await runAll(scenarios, tell);
  return {
    gpu: gpu.title,
    slower,
    rows: predictions.map((prediction, index) => rowOf(prediction, index === 0)),
  };
}

function gpuOf({ gpuName }: WhatIfQuestion, { knownGpu, knownGpus }: Planner): Gpu {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  const name = gpuName === null ? '' : plain(gpuName);
  const found = knownGpus().find((gpu) =>
    [gpu.name, gpu.title, ...gpu.aliases].some((each) => name !== '' && name.includes(plain(each))),
  );
  return found ?? knownGpu(STAND_IN);
}

function lawsBeside(law: Profile | null): readonly (Profile | null)[] {
  const others = OTHER_LAWS.filter((name) => name !== law?.name);
  return [...(law === null ? [] : [null]), ...others.map((name) => referenceProfile(name))];
}

function scenarioOf(
  { traffic, model, maxRows, pageTokens }: WhatIfQuestion,
  { DEFAULT_FLAGS, readSpec, specWorkload }: Planner,
  gpu: Gpu,
  law: Profile | null,
  engine: EngineName,
): Scenario {
  const longest = model.spec.maxPositions;
  const within = (tokens: number, most: number) => Math.max(1, Math.min(Math.round(tokens), most));
  const output = within(traffic.outputTokens, Math.min(OUTPUT_TOKENS_MAX, longest >> 1));
  const prompt = within(traffic.promptTokens, Math.min(PROMPT_TOKENS_MAX, longest - output));
  const concurrency = within(traffic.concurrency, Math.min(CONCURRENCY_MAX, maxRows));
  const words = `${concurrency} at a time, ${prompt}+${Math.max(2, output)}, ${REQUESTS} requests`;
  const maxModelTokens = Math.min(longest, prompt + output + pageTokens);
  return {
    model,
    gpu,
    law,
    engine,
    flags: { ...DEFAULT_FLAGS, maxModelTokens, maxRows, pageTokens },
    workload: specWorkload(readSpec(words), 1),
    slo: null,
    stepFactor: 1,
    warmupRequests: Math.min(REQUESTS >> 1, concurrency),
    window: null,
    seed: 1,
  };
}

/** Parts of a step that kernels take, whatever the bridge is. */
function kernelsNs({ step }: Prediction): number {
  return step.memoryNs + step.computeNs + step.kernelNs + step.collectiveNs;
}

function bridgeNs({ step }: Prediction): number {
  const { tollNs, transferNs, allocationNs, blockedNs, launchNs, hostNs } = step;
  return tollNs + transferNs + allocationNs + blockedNs + launchNs + hostNs;
}

/** How many times as long kernels would have to take for a token to take what was measured. */
function missOf(prediction: Prediction, tokenNs: number): number {
  const kernels = Math.max(1, kernelsNs(prediction));
  const beside = Math.max(0, prediction.tpotMs.mean * 1e6 - kernels);
  return Math.min(FIT_MAX, Math.max(1 / FIT_MAX, Math.max(1, tokenNs - beside) / kernels));
}

/** The same GPU with everything that kernels depend on `times` as slow. */
function slowed(gpu: Gpu, times: number): Gpu {
  const by = <F extends { readonly value: number }>(figure: F, factor: number): F => {
    return { ...figure, value: figure.value * factor };
  };
  return {
    ...gpu,
    kernelNs: by(gpu.kernelNs, times),
    memoryBytesPerSecond: by(gpu.memoryBytesPerSecond, 1 / times),
    reachedBytesPerSecond: by(gpu.reachedBytesPerSecond, 1 / times),
    bf16FlopsPerSecond: by(gpu.bf16FlopsPerSecond, 1 / times),
    reachedBf16FlopsPerSecond: by(gpu.reachedBf16FlopsPerSecond, 1 / times),
    fp8FlopsPerSecond: by(gpu.fp8FlopsPerSecond, 1 / times),
  };
}

function rowOf(prediction: Prediction, isNow: boolean): WhatIf {
  const { engine, law, tpotMs, crossings } = prediction;
  return {
    policy: engine.replace('bridgekeeper-', ''),
    law,
    isNow,
    tokenNs: tpotMs.mean * 1e6,
    bridgeNs: bridgeNs(prediction),
    crossingsPerToken: crossings.reduce((sum, each) => sum + each.crossingsPerToken, 0),
    bytesPerToken: crossings.reduce((sum, each) => sum + each.bytesPerToken, 0),
  };
}
