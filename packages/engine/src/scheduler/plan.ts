import type { CompiledGrammar } from '../grammar/compiled.ts';
import type { FinishReason, TokenLogprobs } from '../request/request.ts';
import type { Sequence } from './sequence.ts';

/** Consecutive prompt tokens of one sequence to compute in this step. */
export interface PrefillChunk {
  readonly sequence: Sequence;
  /** Which occupancy of its row this is: a preempted sequence comes back with another. */
  readonly epoch: number;
  readonly start: number;
  readonly length: number;
  /** The prompt is complete after it: its last token's logits are sampled, or it is pooled. */
  readonly last: boolean;
}

/** Whether a chunk brings logprobs of tokens that were not sampled. */
export function wantsLines({ sequence: { request }, last }: PrefillChunk): boolean {
  if (request.pooling?.task === 'score') return last;
  return request.sampling.promptLogprobs !== undefined;
}

/** Pages [first, first + count) of a sequence are new to the device's page table. */
export interface PageWrite {
  readonly sequence: Sequence;
  readonly first: number;
  readonly count: number;
  /** Those of the sequence's window, and its table; absent: of its whole context. */
  readonly isWindow?: true;
}

/** How far ahead pages are taken once any are: each tokens' worth saves a crossing per launch. */
export const AHEAD_TOKENS = 64;

/** A grammar that must be in the device's pool before the plan runs. */
export interface GrammarWrite {
  readonly grammar: CompiledGrammar;
  readonly tenant: string;
  /** In words. */
  readonly offset: number;
}

/** The constant state of a row, and a place of `SnapshotPool` that it is copied to or from. */
export interface StateCopy {
  readonly row: number;
  readonly place: number;
}

/** Where rows are computed beside prompts, these and those take multiples of so many lines. */
export const LINE_STEP = 4;

/**
 * What one launch computes. Rows and pages are already assigned. Prompts and decoding rows share
 * one forward pass, so there is only one step where there are prompts.
 */
export interface StepPlan {
  readonly prefill: readonly PrefillChunk[];
  /** In order of arrival; a token each for every step, as far as they get. */
  readonly decode: readonly Sequence[];
  readonly steps: number;
  /** Tokens drafted for each row and step: it brings one of its own, and those that are right. */
  readonly drafts: number;
  readonly pageWrites: readonly PageWrite[];
  readonly grammarWrites: readonly GrammarWrite[];
  /** States that rows get before anything is computed, and that are kept after; absent: none. */
  readonly restores?: readonly StateCopy[];
  readonly snapshots?: readonly StateCopy[];
}

/** What the device reported for one row. */
export interface RowResult {
  readonly row: number;
  readonly epoch: number;
  /** No token where `finish` is 'error'. */
  readonly token: number;
  /** 'error': the logits left nothing to choose from. */
  readonly finish: Extract<FinishReason, 'stop' | 'length' | 'error'> | undefined;
  readonly logprobs: TokenLogprobs | undefined;
}

/** What became of a row's drafts in one step. */
export interface DraftedRow {
  readonly row: number;
  readonly epoch: number;
  readonly drafts: number;
  readonly accepted: number;
}

export interface StepResults {
  /** A row comes once for each of its tokens, in their order. */
  readonly rows: readonly RowResult[];
  /** Of each row and step of a plan with drafts; absent: it had none. */
  readonly drafted?: readonly DraftedRow[];
  /**
   * For each chunk of the plan that wants them, in order: logprobs of the tokens after each of its
   * own, or of those that it is scored by.
   */
  readonly promptLogprobs: readonly (readonly TokenLogprobs[])[];
  /** For each chunk that ends a prompt to be embedded, in order; absent: there are none. */
  readonly embeddings?: readonly Float32Array[];
}
