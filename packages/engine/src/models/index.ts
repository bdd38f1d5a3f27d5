export { ModelError } from './errors.ts';
export type { ModelFiles } from './files.ts';
export { readModelSpec } from './folder.ts';
export { isEmbedder } from './pooling.ts';
export type { Rank } from './rank-slice.ts';
export { readSamplingDefaults, type SamplingDefaults } from './sampling-defaults.ts';
export type { ModelSpec } from './spec.ts';
