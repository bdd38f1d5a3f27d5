import { PlanError } from '@bridgekeeper/planner';
import { Draws, readTrace, type TraceRecord } from '@bridgekeeper/planner/workload';
import { UsageError } from '@bridgekeeper/server';
import type { BenchRequest } from './workload.ts';

export interface TraceOptions {
  readonly requests: number;
  /** Tokens that one of `hash_ids` stands for. */
  readonly chunkTokens: number;
  /** How many seconds 1 in the time column is; undefined: what the format means by it. */
  readonly secondsPerUnit: number | undefined;
  readonly seed: number;
}

/**
 * The requests of a trace, in order of time from 0: Mooncake's JSON lines (`timestamp` in
 * milliseconds, `input_length`, `output_length`, `hash_ids`) or Azure's CSV (`TIMESTAMP`,
 * `ContextTokens`, `GeneratedTokens`). Prompts are random tokens that share what the ids share.
 * Throws UsageError `bad-file` with the line that is wrong.
 */
export function* traceRequests(
  text: string,
  options: TraceOptions,
  vocabulary: ArrayLike<number>,
): Generator<BenchRequest> {
  const { requests, secondsPerUnit } = options;
  const ordered = recordsOf(text, '--dataset-path', secondsPerUnit).slice(0, requests);
  const firstSeconds = ordered[0]?.atSeconds ?? 0;
  for (const [index, record] of ordered.entries()) {
    const { atSeconds, inputTokens, outputTokens } = record;
    yield {
      prompt: promptOf(record, index, options, vocabulary),
      promptTokens: inputTokens,
      outputTokens: Math.max(1, outputTokens),
      atSeconds: atSeconds - firstSeconds,
    };
  }
}

function promptOf(
  { inputTokens, hashIds }: TraceRecord,
  index: number,
  { chunkTokens, seed }: TraceOptions,
  vocabulary: ArrayLike<number>,
): number[] {
  if (hashIds === undefined) return new Draws(seed, 'prompt', index).picks(vocabulary, inputTokens);
  if (hashIds.length !== Math.ceil(inputTokens / chunkTokens)) {
    const message =
      `--timed-trace-chunk-hash-size: a record of ${inputTokens} tokens has ${hashIds.length} ` +
      `hash_ids, which is not what chunks of ${chunkTokens} give`;
    throw new UsageError('bad-file', message);
  }
  return hashIds.flatMap((id, chunk) => {
    const tokens = Math.min(chunkTokens, inputTokens - chunk * chunkTokens);
    return new Draws(seed, 'chunk', id).picks(vocabulary, tokens);
  });
}

/** The requests of a trace that the flag `where` names. Throws UsageError `bad-file`. */
export function recordsOf(
  text: string,
  where: string,
  secondsPerUnit?: number | undefined,
): readonly TraceRecord[] {
  try {
    return readTrace(text, { where, secondsPerUnit });
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    throw new UsageError('bad-file', error.message, { cause: error });
  }
}
