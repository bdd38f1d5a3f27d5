import type { LiveBatch } from './batch.ts';

export type LiveListener = (batch: LiveBatch) => void;

/** An engine that can be watched. It is no slower while nobody does. */
export interface LiveSource {
  /** Tells of what the engine does, about ten times a second, until what it returns is called. */
  watch(listener: LiveListener): () => void;
}
