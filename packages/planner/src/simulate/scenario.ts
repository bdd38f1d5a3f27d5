import type { Profile } from '@bridgekeeper/bridge';
import type { NgramOptions, PolicyName } from '@bridgekeeper/engine';
import type { Gpu } from '../gpus/gpu.ts';
import type { PlannedModel } from '../models/model.ts';
import type { Workload } from '../workload/workload.ts';

/** Engines whose crossings are known (`data/personalities.json`), besides our own policies. */
export const PERSONALITY_NAMES = [
  'vllm-v1-async',
  'vllm-v1-sync',
  'vllm-v1-worker',
  'vllm-v1-packed',
  'vllm-v1-staged',
  'vllm-mrv2',
  'sglang-overlap',
  'sglang-no-overlap',
  'sglang-worker',
  'trtllm-overlap',
] as const;
export type PersonalityName = (typeof PERSONALITY_NAMES)[number];

/** An engine: another one's crossings, or one of our own policies (`bridgekeeper-resident`). */
export type EngineName = PersonalityName | `bridgekeeper-${PolicyName}`;

/** How many pieces a decode step's graph is in: what each launches is launched by itself. */
export type GraphMode = 'full' | 'piecewise' | 'eager';

/** Drafts by n-gram, and how often one is right when all before it were, 0 to 1. */
export interface PlannedDrafts extends NgramOptions {
  readonly chance: number;
}

/** What an engine is started with. Names are those of vLLM's flags, where it has them. */
export interface EngineFlags {
  readonly maxModelTokens: number;
  readonly maxRows: number;
  readonly maxBatchTokens: number;
  /** Tokens of a KV block. */
  readonly pageTokens: number;
  /** Of the GPU's memory, 0 to 1. */
  readonly memoryUtilization: number;
  readonly kvFormat: 'element' | 'fp8-e4m3';
  readonly prefixCaching: boolean;
  readonly tensorParallel: number;
  /** Engines behind one address, each with the whole model on so many GPUs of its own. */
  readonly dataParallel: number;
  /** Each of these GPUs has some experts whole, and not a part of every one. */
  readonly expertParallel: boolean;
  /** What our own policies draft; null: nothing. */
  readonly speculation: PlannedDrafts | null;
  readonly graphs: GraphMode;
  /** Of our own policies: the longest time between a stream's tokens that is aimed at. */
  readonly interTokenLimitMs: number;
}

/** Of all engines of a replica together. */
export const gpusOf = ({ tensorParallel, dataParallel }: EngineFlags): number =>
  tensorParallel * dataParallel;

/** When a request counts as broken. Milliseconds; undefined: not limited. */
export interface Slo {
  readonly ttftMs?: number | undefined;
  /** Mean time between a request's tokens. */
  readonly itlMs?: number | undefined;
  readonly e2eMs?: number | undefined;
}

/** Everything that a prediction follows from. Plain data but for nothing: it can be sent. */
export interface Scenario {
  readonly model: PlannedModel;
  readonly gpu: Gpu;
  /** The bridge that is in force; null: confidential computing is off. */
  readonly law: Profile | null;
  readonly engine: EngineName;
  readonly flags: EngineFlags;
  readonly workload: Workload;
  readonly slo: Slo | null;
  /** What the engine's kernels take of the roofline's time: fitted to a run; absent: 1. */
  readonly stepFactor?: number | undefined;
  /** What another engine's host takes of the time that its description has; absent: 1. */
  readonly hostFactor?: number | undefined;
  /** A load that has been served before: an engine adapts to what it sees. Absent: none. */
  readonly warmup?: Workload | undefined;
  /** Requests that come first and are not measured: the load's warm-up. */
  readonly warmupRequests: number;
  /** What of the lanes is kept for a picture, from the first arrival; null: nothing. */
  readonly window: { readonly fromNs: number; readonly toNs: number } | null;
  readonly seed: number;
}

/** Flags as vLLM starts with them on a large GPU, for a model and a load. */
export const DEFAULT_FLAGS: EngineFlags = {
  maxModelTokens: 32_768,
  maxRows: 256,
  maxBatchTokens: 8192,
  pageTokens: 16,
  memoryUtilization: 0.9,
  kvFormat: 'element',
  prefixCaching: true,
  tensorParallel: 1,
  dataParallel: 1,
  expertParallel: false,
  speculation: null,
  graphs: 'full',
  interTokenLimitMs: 50,
};
