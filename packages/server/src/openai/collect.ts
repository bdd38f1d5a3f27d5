import type { ServerResponse } from 'node:http';
import type { TokenLogprobs } from '@bridgekeeper/engine';
import type { AnswerPart } from '../formats/parts.ts';
import type { Choice, ChoiceDelta, ChoiceFinish, LogprobItem } from './choice.ts';
import type { Generation } from './generation.ts';
import type { TokenListener } from './wake-queue.ts';

export interface WholeChoice {
  readonly index: number;
  /** The content of all parts. */
  text: string;
  /** What belongs together is one part. */
  readonly parts: AnswerPart[];
  readonly logprobs: LogprobItem[];
  readonly tokens: number[];
  readonly promptTokens: Uint32Array;
  promptLogprobs: readonly TokenLogprobs[];
  finish: ChoiceFinish | undefined;
  /** Of a prompt that was not continued. */
  pooled?: Float32Array | undefined;
}

/** Gathers an answer that is sent in one piece. */
class Collector implements TokenListener {
  readonly choices: readonly WholeChoice[];
  readonly #generation: Generation;

  constructor(generation: Generation) {
    this.#generation = generation;
    this.choices = generation.choices.map(({ index, request }) => ({
      index,
      text: '',
      parts: [],
      logprobs: [],
      tokens: [],
      promptTokens: request.promptTokens,
      promptLogprobs: [],
      finish: undefined,
    }));
  }

  wake(): void {
    for (const choice of this.#generation.choices) {
      if (choice.hasNews) this.#add(choice, this.#generation.take(choice));
    }
    if (this.#generation.error !== undefined) this.#generation.abort();
  }

  #add(choice: Choice, delta: ChoiceDelta): void {
    const whole = this.choices[choice.index]!;
    whole.text += delta.text;
    for (const part of delta.parts) addPart(whole.parts, part);
    whole.logprobs.push(...delta.logprobs);
    whole.tokens.push(...delta.tokens);
    whole.promptLogprobs = choice.promptLogprobs;
    whole.finish ??= delta.finish;
    whole.pooled ??= choice.pooled;
  }
}

function addPart(parts: AnswerPart[], part: AnswerPart): void {
  const last = parts.at(-1);
  if (part.kind !== 'call' && last?.kind === part.kind) {
    parts[parts.length - 1] = { ...part, text: last.text + part.text };
  } else parts.push(part);
}

/**
 * Runs an answer to its end. Throws ApiError. Returns undefined where the client left first; then
 * what still ran is cancelled.
 */
export async function collect(
  generation: Generation,
  outgoing: ServerResponse | undefined,
): Promise<readonly WholeChoice[] | undefined> {
  const collector = new Collector(generation);
  generation.start(collector);
  let left = false;
  const leave = () => {
    left = true;
    generation.abort();
  };
  outgoing?.once('close', leave);
  if (outgoing?.destroyed) leave();
  await generation.settled;
  outgoing?.off('close', leave);
  if (left) return undefined;
  if (generation.error !== undefined) throw generation.error;
  return collector.choices;
}
