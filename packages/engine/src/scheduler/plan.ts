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
  /** Its last token's logits are sampled: the prompt is complete after it. */
  readonly last: boolean;
}

/** Pages [first, first + count) of a sequence are new to the device's page table. */
export interface PageWrite {
  readonly sequence: Sequence;
  readonly first: number;
  readonly count: number;
}

/** Where rows are computed beside prompts, these and those take multiples of so many lines. */
export const LINE_STEP = 4;

/** A grammar that must be in the device's pool before the plan runs. */
export interface GrammarWrite {
  readonly grammar: CompiledGrammar;
  readonly tenant: string;
  /** In words. */
  readonly offset: number;
}

/**
 * What one launch computes. Rows and pages are already assigned. Prompts and decoding rows share
 * one forward pass, so there is only one step where there are prompts.
 */
export interface StepPlan {
  readonly prefill: readonly PrefillChunk[];
  /** In order of arrival; `steps` tokens each, as far as they get. */
  readonly decode: readonly Sequence[];
  readonly steps: number;
  readonly pageWrites: readonly PageWrite[];
  readonly grammarWrites: readonly GrammarWrite[];
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

export interface StepResults {
  readonly rows: readonly RowResult[];
  /**
   * For each chunk of the plan whose sequence wants them, in order: logprobs of the tokens after
   * each of its own.
   */
  readonly promptLogprobs: readonly (readonly TokenLogprobs[])[];
}
