import { createRequire } from 'node:module';
import {
  aloneNs,
  type Direction,
  type HostMemoryKind,
  isReferenceProfileName,
  type Profile,
  referenceProfile,
} from '@bridgekeeper/bridge';
import { knownGpu } from '../gpus/gpu.ts';
import { knownModel } from '../models/model.ts';
import type { Prediction } from '../simulate/prediction.ts';
import {
  DEFAULT_FLAGS,
  type EngineName,
  type GraphMode,
  type Scenario,
} from '../simulate/scenario.ts';
import { simulate } from '../simulate/simulate.ts';
import { readSpec, specWorkload } from '../workload/spec.ts';

interface CopyMeasure {
  readonly law: string;
  readonly direction: Direction;
  readonly memory: HostMemoryKind;
  readonly bytes: number;
}

/** What is sent where, to which engine. */
interface LoadMeasure {
  readonly model: string;
  readonly gpu: string;
  readonly law: string;
  readonly engine: EngineName;
  readonly load: string;
  readonly rows?: number;
  readonly graphs?: GraphMode;
  readonly maxModelTokens?: number;
  readonly maxBatchTokens?: number;
  readonly pageTokens?: number;
  /** Its weights take half the bytes that they are priced as: four bits. */
  readonly weightsHalved?: boolean;
}

type Measure =
  | (CopyMeasure & { readonly kind: 'copy'; readonly allocates?: boolean })
  | (CopyMeasure & { readonly kind: 'rate' })
  | (CopyMeasure & { readonly kind: 'rate-ratio'; readonly native: string })
  | (CopyMeasure & { readonly kind: 'copies'; readonly totalBytes: number })
  | { readonly kind: 'collective'; readonly law: string }
  | (LoadMeasure & { readonly kind: 'tax' | 'itl-added' | 'throughput' })
  | (LoadMeasure & {
      readonly kind: 'gain';
      readonly other: EngineName;
      readonly otherGraphs?: GraphMode;
    });

/** A published number, and how it is predicted. */
export interface ValidationCase {
  readonly id: string;
  readonly use: 'calibration' | 'test';
  readonly title: string;
  readonly source: string;
  readonly assumed?: string;
  readonly measure: Measure;
  /** What the engine did without confidential computing. */
  readonly anchor?: { readonly outputTokensPerSecond: number };
  /** Where several figures were, their middle. */
  readonly published: number;
  /** Where several were: least and most. */
  readonly publishedRange?: readonly [number, number];
  readonly unit: string;
  readonly why?: string;
}

interface ValidationData {
  readonly cases: readonly ValidationCase[];
  readonly notPredicted: readonly {
    readonly what: string;
    readonly source: string;
    readonly why: string;
  }[];
}

export interface ValidatedCase {
  readonly case: ValidationCase;
  readonly predicted: number;
  /** Of the effect: 0.1 is a prediction that is 10 % too high. */
  readonly error: number;
  /** The same against that one of several published figures from which it is farthest. */
  readonly worstError: number;
}

/** Of the effect, which a prediction may be off by. */
export const VALIDATION_LIMIT = 0.25;

const require = createRequire(import.meta.url);
export const validationData = (): ValidationData => require('../../data/cases.json');

/** Predicts every case, in their order. The same every time. */
export async function validate(
  onCase: (validated: ValidatedCase) => void = () => undefined,
): Promise<readonly ValidatedCase[]> {
  const validated: ValidatedCase[] = [];
  for (const each of validationData().cases) {
    const predicted = await predict(each);
    validated.push({ case: each, predicted, ...errorsOf(each, predicted) });
    onCase(validated.at(-1)!);
  }
  return validated;
}

/** That it lies between figures that were published excuses no prediction. */
function errorsOf(
  { published, publishedRange }: Pick<ValidationCase, 'published' | 'publishedRange'>,
  predicted: number,
): Pick<ValidatedCase, 'error' | 'worstError'> {
  const error = predicted / published - 1;
  const all = (publishedRange ?? [published]).map((figure) => predicted / figure - 1);
  const worstError = all.reduce((worst, each) => (Math.abs(each) > Math.abs(worst) ? each : worst));
  return { error, worstError };
}

async function predict({ measure, anchor }: ValidationCase): Promise<number> {
  switch (measure.kind) {
    case 'copy':
      return (copyNs(measure) + (measure.allocates === true ? allocationNs(measure.law) : 0)) / 1e3;
    case 'rate':
      return measure.bytes / (copyNs(measure) - tollNs(measure));
    case 'rate-ratio':
      return copyNs({ ...measure, law: measure.native }) / copyNs(measure);
    case 'copies':
      return (copyNs(measure) * Math.ceil(measure.totalBytes / measure.bytes)) / 1e6;
    case 'collective':
      return lawOf(measure.law)!.collectives?.rateFactor ?? 1;
    case 'throughput':
      return (await run(measure, 1)).outputTokensPerSecond;
    case 'tax': {
      const factor = await factorOf(measure, anchor);
      const off = await run({ ...measure, law: 'off' }, factor);
      return 1 - (await run(measure, factor)).outputTokensPerSecond / off.outputTokensPerSecond;
    }
    case 'itl-added': {
      const off = await run({ ...measure, law: 'off' }, 1);
      return (await run(measure, 1)).itlMs.p50 - off.itlMs.p50;
    }
    case 'gain': {
      const factor = await factorOf(measure, anchor);
      const { other, otherGraphs, ...before } = measure;
      const graphs = otherGraphs ?? measure.graphs;
      const after = { ...before, engine: other, ...(graphs === undefined ? {} : { graphs }) };
      const [first, second] = [await run(before, factor), await run(after, factor)];
      return second.outputTokensPerSecond / first.outputTokensPerSecond - 1;
    }
  }
}

function lawOf(name: string): Profile | null {
  return isReferenceProfileName(name) ? referenceProfile(name) : null;
}

const costOf = ({ law, direction, memory }: CopyMeasure) =>
  lawOf(law)!.crossings[direction][memory];
const copyNs = (measure: CopyMeasure) => aloneNs(costOf(measure), measure.bytes);
const tollNs = (measure: CopyMeasure) => costOf(measure).idleTollNs;
const allocationNs = (law: string) => lawOf(law)!.pinnedAllocationNs ?? 0;

function run(measure: LoadMeasure, stepFactor: number): Promise<Prediction> {
  const { rows, graphs, maxModelTokens, maxBatchTokens, pageTokens, weightsHalved } = measure;
  const model = knownModel(measure.model);
  const scenario: Scenario = {
    model: weightsHalved === true ? { ...model, weightBytes: model.weightBytes / 2 } : model,
    gpu: knownGpu(measure.gpu),
    law: lawOf(measure.law),
    engine: measure.engine,
    flags: {
      ...DEFAULT_FLAGS,
      maxRows: rows ?? DEFAULT_FLAGS.maxRows,
      graphs: graphs ?? DEFAULT_FLAGS.graphs,
      maxModelTokens: maxModelTokens ?? DEFAULT_FLAGS.maxModelTokens,
      maxBatchTokens: maxBatchTokens ?? DEFAULT_FLAGS.maxBatchTokens,
      pageTokens: pageTokens ?? DEFAULT_FLAGS.pageTokens,
    },
    workload: specWorkload(readSpec(measure.load), 1),
    slo: null,
    stepFactor,
    warmupRequests: 0,
    window: null,
    seed: 1,
  };
  return simulate(scenario);
}

/** Rounds in which the time of kernels is fitted to a run without confidential computing. */
const ANCHOR_ROUNDS = 6;

/** By how much kernels take longer than the roofline says, for the published rate without CC. */
async function factorOf(measure: LoadMeasure, anchor: ValidationCase['anchor']): Promise<number> {
  if (anchor === undefined) return 1;
  let factor = 1;
  for (let round = 0; round < ANCHOR_ROUNDS; round++) {
    const { outputTokensPerSecond } = await run({ ...measure, law: 'off' }, factor);
    factor *= outputTokensPerSecond / anchor.outputTokensPerSecond;
  }
  return factor;
}
