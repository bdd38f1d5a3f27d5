export { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.ts';
export type { FillReport } from './fill.ts';
export {
  type LoadedTensors,
  type LoadOptions,
  type LoadProgress,
  loadRank,
  loadVerbatim,
} from './load.ts';
export { ReaderPool } from './reading/reads.ts';
export { serveReads } from './reading/serve-reads.ts';
export { deriveStrategy, type LoadingStrategy } from './strategy/loading-strategy.ts';
export { convertElements, storedBytes } from './tensors/convert.ts';
export { weightBytes } from './tensors/layout.ts';
export type { StoredPart } from './tensors/parts.ts';
