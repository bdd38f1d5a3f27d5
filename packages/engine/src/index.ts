export {
  createEngine,
  type EngineLimits,
  type EngineOptions,
  type GrammarOptions,
  type PreparationPhase,
  seedSource,
} from './create.ts';
export { Engine } from './engine.ts';
export type { CompiledGrammar } from './grammar/compiled.ts';
export { RECOMPUTED_FOR } from './kv/page-node.ts';
export { noPages } from './kv/tiers/accounts.ts';
export { type KvShare, sumOfKvShares } from './kv/tiers/kv-shares.ts';
export { KV_PARTS } from './kv/tiers/movement.ts';
export { TIER_POLICY_NAMES, type TierPolicyName } from './kv/tiers/policies.ts';
export { type BurstLimits, burstSteps } from './policies/burst.ts';
export { POLICY_NAMES, type PolicyName } from './policies/policy.ts';
export { checkRequest } from './request/check-request.ts';
export {
  ASLEEP,
  ENGINE_TASKS,
  type EngineCard,
  type EngineClient,
  EngineError,
  type EngineErrorCode,
  type EngineShare,
  type EngineStats,
  type EngineTask,
  type FinishReason,
  type GenerationEvent,
  type GenerationRequest,
  NOTED,
  type Pooling,
  type RequestTiming,
  type SamplingParams,
  type SleepRequest,
  type TokenLogprobs,
} from './request/request.ts';
export { GREEDY } from './request/sampling.ts';
export { describeMemory } from './runner/memory.ts';
export type { NgramOptions } from './speculation/ngram.ts';
export type { Route } from './traffic/route.ts';
export type { CrossingShare } from './traffic/shares.ts';
export { Traffic } from './traffic/traffic.ts';
