import { type AnswerPart, textOf } from '../formats/parts.ts';
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
    const { parts, logprobs, tokens, finish } = delta;
    const { tokenIds, hidesReasoning = false } = this.#detail;
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
    const said = parts.map((part) => deltaOf(part, hidesReasoning)).filter((each) => each !== '');
    const isEmpty = said.length === 0 && logprobs.length === 0 && tokens.length === 0;
    if (isEmpty && finish === undefined) return out;
    const last = said.pop() ?? '"content":""';
    const noIds = tokenIds ? ',"token_ids":[]' : '';
    for (const each of said) {
      out += `${opening}${each}},"logprobs":null${noIds},"finish_reason":null}${ending}`;
    }
    out += `${opening}${last}},"logprobs":`;
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

/** The fields of a chunk's delta; empty where there is nothing to say. */
function deltaOf(part: AnswerPart, hidesReasoning: boolean): string {
  switch (part.kind) {
    case 'text':
      return `"content":${JSON.stringify(part.text)}`;
    case 'reasoning': {
      if (hidesReasoning) return '';
      const text = JSON.stringify(part.text);
      return `"reasoning":${text},"reasoning_content":${text}`;
    }
    case 'call': {
      const { index, id, name } = part;
      const call = { index, id, type: 'function', function: { name, arguments: '' } };
      return `"tool_calls":${JSON.stringify([call])}`;
    }
    case 'arguments': {
      const call = { index: part.index, function: { arguments: part.text } };
      return `"tool_calls":${JSON.stringify([call])}`;
    }
  }
}

/** What a whole answer says: reasoning under both of the names in use. */
function messageOf({ text, parts }: WholeChoice, { hidesReasoning }: AnswerDetail) {
  const reasoning = textOf(parts, 'reasoning');
  const calls = parts.flatMap((part, at) => {
    if (part.kind !== 'call') return [];
    const next = parts[at + 1];
    const given = next?.kind === 'arguments' ? next.text : '';
    return [{ id: part.id, type: 'function', function: { name: part.name, arguments: given } }];
  });
  return {
    role: 'assistant',
    content: text === '' && calls.length > 0 ? null : text,
    ...(reasoning === '' || hidesReasoning ? {} : { reasoning, reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
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
      message: messageOf(choice, detail),
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
