export { Checkpoint, openCheckpoint } from './checkpoint/checkpoint.ts';
export {
  createEngine,
  type EngineLimits,
  type EngineOptions,
  type PreparedModel,
  prepareModel,
  startEngine,
} from './create.ts';
export { Engine } from './engine.ts';
export { type GoldenResult, runGolden } from './golden.ts';
export type { FillReport, RaceResult } from './loader/fill.ts';
export {
  type LoadedTensors,
  type LoadedWeights,
  type LoadOptions,
  type LoadProgress,
  loadRank,
  loadVerbatim,
  loadWeights,
} from './loader/load.ts';
export { ReaderPool } from './loader/reading/reads.ts';
export {
  deriveStrategy,
  type LoadingStrategy,
  STAGING_BYTES,
} from './loader/strategy/loading-strategy.ts';
export { checkTensors } from './loader/tensors/check-tensors.ts';
export { convertElements, storedBytes } from './loader/tensors/convert.ts';
export type { StoredPart } from './loader/tensors/parts.ts';
export { decodeWork, floorsNs, prefillWork, type Work } from './measure/floors.ts';
export { type DeviceRates, measureRates } from './measure/rates.ts';
export { fitsKv, measureDecode, measurePrefill, type StepTime } from './measure/steps.ts';
export { describeModel } from './models/describe.ts';
export * from './models/errors.ts';
export type { ModelFiles } from './models/files.ts';
export { readModelSpec } from './models/folder.ts';
export type { Rank } from './models/rank-slice.ts';
export { ropeTable } from './models/rope.ts';
export { readSamplingDefaults, type SamplingDefaults } from './models/sampling-defaults.ts';
export * from './models/spec.ts';
export {
  type LayerWeights,
  parameterCount,
  type Weights,
  weightTensors,
} from './models/weights.ts';
export { type BurstLimits, burstLaunches, burstSteps } from './policies/burst.ts';
export { POLICY_NAMES, type PolicyName } from './policies/policy.ts';
export { checkRequest } from './request/check-request.ts';
export * from './request/request.ts';
export { checkSampling, GREEDY } from './request/sampling.ts';
export { describeMemory } from './runner/memory.ts';
export type { ChunkedFile } from './seal/chunks.ts';
export { chunkDigest, chunkSpan, expectedDigest, sealedFile } from './seal/chunks.ts';
export { decryptChunk, openSealKey, type SealKey, USER_KEY_BYTES } from './seal/cipher.ts';
export {
  isChunkSize,
  LEAF_BYTES,
  parseSeal,
  type Seal,
  type SealEncryption,
  type SealedChunk,
  type SealedFile,
} from './seal/manifest.ts';
export { type OpenedSeal, openSeal, readSeal, type SealPolicy } from './seal/open.ts';
export { openModel, pinSeal } from './seal/open-model.ts';
export { openChunk, openSmallFile, readSmallFiles, verifySmallFile } from './seal/small-files.ts';
export { type SealOptions, type SealProgress, sealModel } from './sealing/make.ts';
export { type SealFault, type VerifyOptions, verifyModel } from './sealing/verify.ts';
export type { Agreement, SequenceLogprobs } from './testing/agreement.ts';
export { checkRandomModel, type ModelCheck, type Peer } from './testing/model-check.ts';
export { type ModelFolderOptions, smallConfig, writeModelFolder } from './testing/model-folder.ts';
export { RANDOM_MODELS, type RandomModel } from './testing/random-models.ts';
export type { ChatInput } from './text/chat-template.ts';
export type { Detokenizer } from './text/detokenizer.ts';
export * from './text/errors.ts';
export { StopMatcher, type StopPush } from './text/stop-matcher.ts';
export {
  type DetokenizerOptions,
  openTokenizer,
  Tokenizer,
  type TokenizerOptions,
} from './text/tokenizer.ts';
export { Route } from './traffic/route.ts';
export type { CrossingShare } from './traffic/shares.ts';
export { Traffic, type TrafficOptions } from './traffic/traffic.ts';
