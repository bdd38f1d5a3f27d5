import type {
  EngineCard,
  EngineErrorCode,
  EngineStats,
  GenerationEvent,
  GenerationRequest,
  SleepRequest,
} from '@bridgekeeper/engine';
import type { LiveBatch } from '../live/batch.ts';
import type { EngineConfig } from './config/engine-config.ts';
import type { StartPhase } from './start-timeline.ts';

/** What the engine's thread is started with: plain data. */
export interface EngineThreadData {
  readonly config: EngineConfig;
}

/**
 * What ended an engine, or kept one from starting. Closed: metrics have it as a label. `stalled`: a
 * copy did not end. `hung`: it did nothing more, and said nothing. `thread`: its thread or process
 * ended unasked. `other`: nobody foresaw it.
 */
export const FAILURE_CAUSES = [
  'device',
  'stalled',
  'hung',
  'invariant',
  'model',
  'thread',
  'other',
] as const;
export type FailureCause = (typeof FAILURE_CAUSES)[number];

/** From the server's thread to the engine's. */
export type ToEngine =
  | { readonly kind: 'submit'; readonly request: GenerationRequest }
  | { readonly kind: 'cancel'; readonly id: string }
  | { readonly kind: 'sleep'; readonly number: number; readonly request: SleepRequest }
  | { readonly kind: 'wake-up'; readonly number: number }
  /** Whether somebody looks at what the engine does, as it does it. */
  | { readonly kind: 'watch'; readonly on: boolean }
  /** Whether it does anything: `alive` is the answer. */
  | { readonly kind: 'ask' }
  | { readonly kind: 'shutdown'; readonly graceMs: number };

/** From the engine's thread to the server's. Events travel together, once per engine step. */
export type FromEngine =
  | { readonly kind: 'progress'; readonly bytesDone: number; readonly bytesTotal: number }
  | { readonly kind: 'phase'; readonly phase: StartPhase }
  | { readonly kind: 'model'; readonly lines: readonly string[] }
  | { readonly kind: 'ready'; readonly card: EngineCard; readonly stats: EngineStats }
  | {
      readonly kind: 'events';
      readonly events: readonly GenerationEvent[];
      readonly stats: EngineStats | undefined;
    }
  | {
      /** To `sleep` or `wake-up` of this number. */
      readonly kind: 'rested';
      readonly number: number;
      readonly refusal: { readonly code: EngineErrorCode; readonly message: string } | null;
      readonly isAsleep: boolean;
      readonly stats: EngineStats;
    }
  /** What has been launched so far: an engine that hangs launches nothing more. */
  | { readonly kind: 'alive'; readonly launches: number }
  | {
      readonly kind: 'live';
      readonly batch: LiveBatch;
      /** Where what was sent last is old. */
      readonly stats: EngineStats | undefined;
    }
  | {
      readonly kind: 'failed';
      readonly code: EngineErrorCode;
      readonly message: string;
      readonly cause: FailureCause;
    }
  | { readonly kind: 'ended' };
