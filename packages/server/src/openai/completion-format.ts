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
import { CompletionLogprobs } from './logprobs.ts';
import type { ChunkFormat } from './sse.ts';
import type { Usage } from './usage.ts';

/** `text_completion` events. What does not change within a stream is serialised once. */
export class CompletionChunks implements ChunkFormat {
  readonly #opening: string;
  readonly #usage: UsageOptions;
  readonly #logprobs: ((index: number) => CompletionLogprobs) | undefined;

  constructor(head: AnswerHead, text: ModelText, usage: UsageOptions, withLogprobs: boolean) {
    this.#opening = chunkOpening(head, 'text_completion');
    this.#usage = usage;
    if (!withLogprobs) return;
    const byIndex = new Map<number, CompletionLogprobs>();
    this.#logprobs = (index) => {
      const known = byIndex.get(index) ?? new CompletionLogprobs(text);
      byIndex.set(index, known);
      return known;
    };
  }

  chunk(choice: Choice, delta: ChoiceDelta): string {
    const { text, logprobs, finish } = delta;
    if (text === '' && logprobs.length === 0 && finish === undefined) return '';
    const said = this.#logprobs?.(choice.index).next(logprobs);
    let out = `${this.#opening}{"index":${choice.index},"text":${JSON.stringify(text)},"logprobs":`;
    out += said === undefined ? 'null' : JSON.stringify(said);
    out +=
      finish === undefined
        ? ',"finish_reason":null,"stop_reason":null}'
        : `,"finish_reason":"${finish.reason}","stop_reason":${JSON.stringify(finish.stopReason)}}`;
    return out + chunkEnding(choice, this.#usage);
  }

  closing(generation: Generation): string {
    return usageChunk(this.#opening, generation, this.#usage);
  }
}

/** The `text_completion` document. */
export function completion(
  head: AnswerHead,
  choices: readonly WholeChoice[],
  usage: Usage,
  text: ModelText,
  withLogprobs: boolean,
) {
  return {
    id: head.id,
    object: 'text_completion',
    created: head.created,
    model: head.model,
    choices: choices.map((choice) => ({
      index: choice.index,
      text: choice.text,
      logprobs: withLogprobs ? new CompletionLogprobs(text).next(choice.logprobs) : null,
      finish_reason: choice.finish?.reason ?? null,
      stop_reason: choice.finish?.stopReason ?? null,
    })),
    usage,
  };
}
