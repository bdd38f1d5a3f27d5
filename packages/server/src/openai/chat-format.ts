import type { ModelText } from '../text/model-text.ts';
import {
  type AnswerHead,
  chunkEnding,
  chunkOpening,
  type UsageOptions,
  usageChunk,
} from './answer-head.ts';
import type { Choice, ChoiceDelta } from './choice.ts';
import type { WholeChoice } from './collect.ts';
import type { Generation } from './generation.ts';
import { chatLogprobs } from './logprobs.ts';
import type { ChunkFormat } from './sse.ts';
import type { Usage } from './usage.ts';

/** `chat.completion.chunk` events. What does not change within a stream is serialised once. */
export class ChatChunks implements ChunkFormat {
  readonly #opening: string;
  readonly #text: ModelText;
  readonly #usage: UsageOptions;
  readonly #withLogprobs: boolean;
  readonly #introduced = new Set<number>();

  constructor(head: AnswerHead, text: ModelText, usage: UsageOptions, withLogprobs: boolean) {
    this.#opening = chunkOpening(head, 'chat.completion.chunk');
    this.#text = text;
    this.#usage = usage;
    this.#withLogprobs = withLogprobs;
  }

  chunk(choice: Choice, delta: ChoiceDelta): string {
    const { text, logprobs, finish } = delta;
    const ending = chunkEnding(choice, this.#usage);
    const opening = `${this.#opening}{"index":${choice.index},"delta":{`;
    let out = '';
    if (!this.#introduced.has(choice.index)) {
      this.#introduced.add(choice.index);
      out = `${opening}"role":"assistant","content":""},"logprobs":null,"finish_reason":null}`;
      out += ending;
    }
    if (text === '' && logprobs.length === 0 && finish === undefined) return out;
    out += `${opening}"content":${JSON.stringify(text)}},"logprobs":`;
    out += this.#withLogprobs ? JSON.stringify(chatLogprobs(logprobs, this.#text)) : 'null';
    if (finish === undefined) return `${out},"finish_reason":null}${ending}`;
    const stopReason = JSON.stringify(finish.stopReason);
    return `${out},"finish_reason":"${finish.reason}","stop_reason":${stopReason}}${ending}`;
  }

  closing(generation: Generation): string {
    return usageChunk(this.#opening, generation, this.#usage);
  }
}

/** The `chat.completion` document. */
export function chatCompletion(
  head: AnswerHead,
  choices: readonly WholeChoice[],
  usage: Usage,
  text: ModelText,
  withLogprobs: boolean,
) {
  return {
    id: head.id,
    object: 'chat.completion',
    created: head.created,
    model: head.model,
    choices: choices.map((choice) => ({
      index: choice.index,
      message: { role: 'assistant', content: choice.text },
      logprobs: withLogprobs ? chatLogprobs(choice.logprobs, text) : null,
      finish_reason: choice.finish?.reason ?? null,
      stop_reason: choice.finish?.stopReason ?? null,
    })),
    usage,
  };
}
