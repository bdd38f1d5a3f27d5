import type { GrammarPool } from '../../grammar/grammar-pool.ts';
import { PrefixTree, type PrefixTreeOptions } from '../../kv/prefix-tree.ts';
import type { GenerationEvent, GenerationRequest, SamplingParams } from '../../request/request.ts';
import { GREEDY } from '../../request/sampling.ts';
import type { RowResult, StepPlan } from '../plan.ts';
import { Scheduler, type SchedulerLimits } from '../scheduler.ts';
import { Sequence } from '../sequence.ts';

export const LIMITS: SchedulerLimits = {
  maxRows: 4,
  maxBatchTokens: 32,
  pageTokens: 4,
  maxLines: 4,
  maxCountTokens: 64,
  chunkedPrefill: true,
};

interface Surroundings {
  readonly prefixCaching?: boolean;
  readonly tiers?: PrefixTreeOptions['tiers'];
  readonly window?: PrefixTreeOptions['window'];
  readonly grammars?: GrammarPool;
}

/** A scheduler over so many pages of the device. */
export function scheduler(pages: number, options: Partial<SchedulerLimits> & Surroundings = {}) {
  const { prefixCaching: isEnabled = true, tiers, window, grammars, ...limits } = options;
  const { pageTokens } = { ...LIMITS, ...limits };
  const pool = new PrefixTree({ pages, pageTokens, isEnabled, tiers, window });
  return { pool, scheduler: new Scheduler({ ...LIMITS, ...limits }, pool, grammars) };
}

let arrivals = 0;

/** A request that came after all before it. */
export function sequence(
  prompt: readonly number[],
  sampling: Partial<SamplingParams> = {},
  more: Partial<GenerationRequest> = {},
): Sequence {
  const request = {
    id: `r${arrivals}`,
    tenant: 't',
    promptTokens: Uint32Array.from(prompt),
    sampling: { ...GREEDY, ...sampling },
    ...more,
  };
  return new Sequence(request, 0n, arrivals++, 0);
}

/** Plays the device: every sampled row gets the token `tokenOf` says, and ends at max_tokens. */
export function results(plan: StepPlan, tokenOf = (s: Sequence) => s.length % 97): RowResult[] {
  const sampled = [
    ...plan.prefill.filter((chunk) => chunk.last).map((chunk) => chunk.sequence),
    ...plan.decode,
  ];
  return sampled.map((s) => ({
    row: s.row,
    epoch: s.epoch,
    token: tokenOf(s),
    finish: s.generated + 1 >= s.request.sampling.maxTokens ? 'length' : undefined,
    logprobs: undefined,
  }));
}

export function step(s: Scheduler): { plan: StepPlan; events: GenerationEvent[] } {
  const plan = s.plan(0);
  return { plan, events: s.commit(plan, { rows: results(plan), promptLogprobs: [] }, 0) };
}

export const range = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);
