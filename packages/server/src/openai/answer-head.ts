import type { ApiError } from '../http/errors.ts';
import type { Choice } from './choice.ts';
import type { Generation } from './generation.ts';
import type { Usage } from './usage.ts';

/** What every document and chunk of one answer begins with. */
export interface AnswerHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

/** What an answer carries beside text and usage. */
export interface AnswerDetail {
  readonly logprobs: boolean;
  /** Logprobs name tokens by their ids. */
  readonly namesIds: boolean;
  /** The prompt's token ids and the answer's. */
  readonly tokenIds: boolean;
  readonly promptLogprobs: boolean;
  /** Reasoning is left out; absent: it is shown. */
  readonly hidesReasoning?: boolean;
}

/** Which usage a stream reports: at the end, with every chunk, or not at all. */
export interface UsageOptions {
  readonly atEnd: boolean;
  readonly continuous: boolean;
}

export function usageOptions(
  options: { include_usage?: boolean | null | undefined } & {
    continuous_usage_stats?: boolean | null | undefined;
  },
): UsageOptions {
  const atEnd = options.include_usage === true;
  return { atEnd, continuous: atEnd && options.continuous_usage_stats === true };
}

/**
 * `"id":…,"object":…,"created":…,"model":…,"choices":[` opened by `data: {`: built once for a
 * stream.
 */
export function chunkOpening(head: AnswerHead, object: string): string {
  const { id, created, model } = head;
  return `data: ${JSON.stringify({ id, object, created, model }).slice(0, -1)},"choices":[`;
}

/**
 * The end of a chunk, with `fields` of its own, which begin with a comma, and the choice's usage
 * where that was asked for, as it is after `completionTokens` tokens.
 */
export function chunkEnding(
  choice: Choice,
  usage: UsageOptions,
  completionTokens = choice.completionTokens,
  fields = '',
): string {
  if (!usage.continuous) return `]${fields}}\n\n`;
  const promptTokens = choice.request.promptTokens.length;
  const stats: Pick<Usage, 'prompt_tokens' | 'total_tokens' | 'completion_tokens'> = {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + completionTokens,
    completion_tokens: completionTokens,
  };
  return `]${fields},"usage":${JSON.stringify(stats)}}\n\n`;
}

/** OpenAI's end of a stream. */
const DONE = 'data: [DONE]\n\n';

/** The end of a stream, after the chunk without choices where usage was asked for. */
export function streamEnding(opening: string, generation: Generation, usage: UsageOptions): string {
  if (!usage.atEnd) return DONE;
  return `${opening}],"usage":${JSON.stringify(generation.usage())}}\n\n${DONE}`;
}

/** The end of a stream that failed. */
export function failedEnding(error: ApiError): string {
  return `data: ${JSON.stringify(error.body)}\n\n${DONE}`;
}
