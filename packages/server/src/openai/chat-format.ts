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
import { chatLogprobs, promptLogprobs } from './logprobs.ts';
import type { ChunkFormat } from './sse.ts';
import type { Usage } from './usage.ts';

/** `chat.completion.chunk` events. What does not change within a stream is serialised once. */
export class ChatChunks implements ChunkFormat {
  readonly #opening: string;
  readonly #text: ModelText;
  readonly #usage: UsageOptions;
  readonly #detail: AnswerDetail;
  readonly #introduced = new Set<number>();

  constructor(head: AnswerHead, text: ModelText, usage: UsageOptions, detail: AnswerDetail) {
    this.#opening = chunkOpening(head, 'chat.completion.chunk');
    this.#text = text;
    this.#usage = usage;
    this.#detail = detail;
  }

  chunk(choice: Choice, delta: ChoiceDelta): string {
    const { text, logprobs, tokens, finish } = delta;
    const { tokenIds } = this.#detail;
    const ending = chunkEnding(choice, this.#usage);
    const opening = `${this.#opening}{"index":${choice.index},"delta":{`;
    let out = '';
    if (!this.#introduced.has(choice.index)) {
      this.#introduced.add(choice.index);
      out = `${opening}"role":"assistant","content":""},"logprobs":null,"finish_reason":null}`;
      const ids = tokenIds ? JSON.stringify([...choice.request.promptTokens]) : undefined;
      const more = ids === undefined ? '' : `,"prompt_token_ids":${ids}`;
      out += chunkEnding(choice, this.#usage, 0, more);
    }
    const isEmpty = text === '' && logprobs.length === 0 && tokens.length === 0;
    if (isEmpty && finish === undefined) return out;
    out += `${opening}"content":${JSON.stringify(text)}},"logprobs":`;
    out += this.#detail.logprobs
      ? JSON.stringify(chatLogprobs(logprobs, this.#text, this.#detail))
      : 'null';
    if (tokenIds) out += `,"token_ids":${JSON.stringify(tokens)}`;
    if (finish === undefined) return `${out},"finish_reason":null}${ending}`;
    const stopReason = JSON.stringify(finish.stopReason);
    return `${out},"finish_reason":"${finish.reason}","stop_reason":${stopReason}}${ending}`;
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

/** The `chat.completion` document. */
export function chatCompletion(
  head: AnswerHead,
  choices: readonly WholeChoice[],
  usage: Usage,
  text: ModelText,
  detail: AnswerDetail,
) {
  const first = choices[0]!;
  return {
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: head.model,
    choices: choices.map((choice) => ({
      index: choice.index,
      message: { role: 'assistant', content: choice.text },
      logprobs: detail.logprobs ? chatLogprobs(choice.logprobs, text, detail) : null,
      ...(detail.tokenIds ? { token_ids: choice.tokens } : {}),
      finish_reason: choice.finish?.reason ?? null,
      stop_reason: choice.finish?.stopReason ?? null,
    })),
    ...(detail.promptLogprobs
      ? { prompt_logprobs: promptLogprobs(first.promptTokens, first.promptLogprobs, text) }
      : {}),
    ...(detail.tokenIds ? { prompt_token_ids: [...first.promptTokens] } : {}),
    usage,
  };
}
