import type { ApiError } from '../http/errors.ts';
import type { ModelText } from '../text/model-text.ts';
import {
  type AnswerDetail,
  type AnswerHead,
  chunkEnding,
  chunkOpening,
  failedEnding,
  streamEnding,
  type UsageOptions,
} from './answer-head.ts';
import type { Choice, ChoiceDelta } from './choice.ts';
import type { WholeChoice } from './collect.ts';
import type { Generation } from './generation.ts';
import { CompletionLogprobs, promptLogprobs } from './logprobs.ts';
import type { ChunkFormat } from './sse.ts';
import type { Usage } from './usage.ts';

/** `text_completion` events. What does not change within a stream is serialised once. */
export class CompletionChunks implements ChunkFormat {
  readonly #opening: string;
  readonly #usage: UsageOptions;
  readonly #tokenIds: boolean;
  readonly #introduced = new Set<number>();
  readonly #logprobs: ((index: number) => CompletionLogprobs) | undefined;

  constructor(head: AnswerHead, text: ModelText, usage: UsageOptions, detail: AnswerDetail) {
    this.#opening = chunkOpening(head, 'text_completion');
    this.#usage = usage;
    this.#tokenIds = detail.tokenIds;
    if (!detail.logprobs) return;
    const byIndex = new Map<number, CompletionLogprobs>();
    this.#logprobs = (index) => {
      const known = byIndex.get(index) ?? new CompletionLogprobs(text, detail);
      byIndex.set(index, known);
      return known;
    };
  }

  chunk(choice: Choice, delta: ChoiceDelta): string {
    const { text, logprobs, tokens, finish } = delta;
    const isEmpty = text === '' && logprobs.length === 0 && tokens.length === 0;
    if (isEmpty && finish === undefined) return '';
    const said = this.#logprobs?.(choice.index).next(logprobs, text);
    let out = `${this.#opening}{"index":${choice.index},"text":${JSON.stringify(text)},"logprobs":`;
    out += said === undefined ? 'null' : JSON.stringify(said);
    if (this.#tokenIds) out += this.#ids(choice, tokens);
    out +=
      finish === undefined
        ? ',"finish_reason":null,"stop_reason":null}'
        : `,"finish_reason":"${finish.reason}","stop_reason":${JSON.stringify(finish.stopReason)}}`;
    return out + chunkEnding(choice, this.#usage);
  }

  /** The prompt's come with a choice's first chunk. */
  #ids({ index, request }: Choice, tokens: readonly number[]): string {
    const prompt = this.#introduced.has(index) ? null : [...request.promptTokens];
    this.#introduced.add(index);
    return `,"prompt_token_ids":${JSON.stringify(prompt)},"token_ids":${JSON.stringify(tokens)}`;
  }

  opening(): string {
    return '';
  }

  closing(generation: Generation): string {
    return streamEnding(this.#opening, generation, this.#usage);
  }

  failure(_generation: Generation, error: ApiError): string {
    return failedEnding(error);
  }
}

/** The `text_completion` document. */
export function completion(
  head: AnswerHead,
  choices: readonly WholeChoice[],
  usage: Usage,
  text: ModelText,
  detail: AnswerDetail,
) {
  return {
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model: head.model,
    choices: choices.map((choice) => ({
      index: choice.index,
      text: choice.text,
      logprobs: detail.logprobs
        ? new CompletionLogprobs(text, detail).next(choice.logprobs, choice.text)
        : null,
      ...(detail.promptLogprobs
        ? { prompt_logprobs: promptLogprobs(choice.promptTokens, choice.promptLogprobs, text) }
        : {}),
      ...(detail.tokenIds
        ? { prompt_token_ids: [...choice.promptTokens], token_ids: choice.tokens }
        : {}),
      finish_reason: choice.finish?.reason ?? null,
      stop_reason: choice.finish?.stopReason ?? null,
    })),
    usage,
  };
}
