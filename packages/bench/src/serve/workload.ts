import { Draws } from '@bridgekeeper/planner/workload';
import { UsageError } from '@bridgekeeper/server';

/** Text, or token ids. */
export type Prompt = string | readonly number[];

/** One request as a data set has it. */
export interface BenchRequest {
  readonly prompt: Prompt;
  /** Undefined where they were not counted. */
  readonly promptTokens: number | undefined;
  readonly outputTokens: number;
  /** Seconds from the first request's time; only in traces. */
  readonly atSeconds?: number;
}

/** The part of a tokenizer that workloads need. */
export interface TextCodec {
  encode(text: string, addSpecialTokens: boolean): ArrayLike<number>;
  decode(ids: ArrayLike<number>, skipSpecialTokens: boolean): string;
}

export interface RandomOptions {
  readonly requests: number;
  /** Tokens of a prompt behind its prefix, and of an answer. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Lengths are drawn from (1 - ratio) to (1 + ratio) times these. */
  readonly rangeRatio: number;
  /** Tokens that all prompts begin with. */
  readonly prefixTokens: number;
  readonly seed: number;
}

/**
 * Prompts of random tokens, each drawn for itself, so that no two share more than the prefix. With
 * a codec they are text of the wanted length, else token ids. Throws UsageError `bad-combination`
 * where a prompt could be empty.
 */
export function* randomRequests(
  options: RandomOptions,
  vocabulary: ArrayLike<number>,
  codec: TextCodec | undefined,
): Generator<BenchRequest> {
  const { seed, rangeRatio } = options;
  // What the server will put in front of a text by itself.
  const addedTokens = codec?.encode('', true).length ?? 0;
  const input = rangeAround(Math.max(0, options.inputTokens - addedTokens), rangeRatio);
  const output = rangeAround(options.outputTokens, rangeRatio);
  if (options.prefixTokens + input.low < 1) {
    const message = '--random-input-len: a prompt could be empty; make it longer';
    throw new UsageError('bad-combination', message);
  }
  const prefix = new Draws(seed, 'prefix').picks(vocabulary, options.prefixTokens);
  const lengths = new Draws(seed, 'lengths');
  for (let index = 0; index < options.requests; index++) {
    const inputTokens = lengths.integer(input.low, input.high);
    const outputTokens = Math.max(1, lengths.integer(output.low, output.high));
    const draws = new Draws(seed, 'prompt', index);
    const ids = [...prefix, ...draws.picks(vocabulary, inputTokens)];
    if (codec === undefined) {
      yield { prompt: ids, promptTokens: ids.length, outputTokens };
      continue;
    }
    const { text, tokens } = textOfLength(ids, vocabulary, codec, draws);
    yield { prompt: text, promptTokens: tokens + addedTokens, outputTokens };
  }
}

/** Whole numbers around `middle`; as vLLM rounds them. */
function rangeAround(middle: number, ratio: number): { low: number; high: number } {
  return { low: Math.floor(middle * (1 - ratio)), high: Math.ceil(middle * (1 + ratio)) };
}

const ROUNDS_MAX = 10;

/**
 * A text that encodes to as many tokens as `ids`, or nearly so: what random tokens spell is often
 * encoded otherwise, so it is cut and filled up until it stays as long as it is.
 */
function textOfLength(
  ids: readonly number[],
  vocabulary: ArrayLike<number>,
  codec: TextCodec,
  draws: Draws,
): { readonly text: string; readonly tokens: number } {
  let wanted = ids;
  let best = { text: '', tokens: 0 };
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const text = codec.decode(wanted, false);
    const got = Array.from(codec.encode(text, false));
    const miss = Math.abs(got.length - ids.length);
    if (round === 0 || miss < Math.abs(best.tokens - ids.length)) {
      best = { text, tokens: got.length };
    }
    if (miss === 0) break;
    const missing = Math.max(0, ids.length - got.length);
    wanted = [...got.slice(0, ids.length), ...draws.picks(vocabulary, missing)];
  }
  return best;
}

/** As many requests as wanted: the first ones, or all and then some of them again. */
export function repeatedTo(
  requests: readonly BenchRequest[],
  count: number,
  draws: Draws,
): BenchRequest[] {
  const missing = requests.length === 0 ? 0 : Math.max(0, count - requests.length);
  return [...requests.slice(0, count), ...draws.picks(requests, missing)];
}
