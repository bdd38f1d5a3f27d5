export type { SequenceLogprobs } from './agreement.ts';
export { type GoldenResult, runGolden } from './golden.ts';
export { checkRandomModel, type ModelCheck, type Peer } from './model-check.ts';
export { RANDOM_MODELS, type RandomModel } from './random-models.ts';
