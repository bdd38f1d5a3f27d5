import type { ServerResponse } from 'node:http';
import type { TokenLogprobs } from '@bridgekeeper/engine';
import type { AnswerPart } from '../formats/parts.ts';
import type { Choice, ChoiceDelta, ChoiceFinish, LogprobItem } from './choice.ts';
import type { Generation } from './generation.ts';
import type { TokenListener } from './wake-queue.ts';

/** A call of a tool, its arguments as a JSON text. */
export interface WholeCall {
  readonly id: string;
  readonly name: string;
  arguments: string;
}

export interface WholeChoice {
  readonly index: number;
  text: string;
  /** undefined: none was told apart from the text. */
  reasoning: string | undefined;
  readonly calls: WholeCall[];
  readonly logprobs: LogprobItem[];
  readonly tokens: number[];
  readonly promptTokens: Uint32Array;
  promptLogprobs: readonly TokenLogprobs[];
  finish: ChoiceFinish | undefined;
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
      reasoning: undefined,
      calls: [],
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
    for (const part of delta.parts) addPart(whole, part);
    whole.logprobs.push(...delta.logprobs);
    whole.tokens.push(...delta.tokens);
    whole.promptLogprobs = choice.promptLogprobs;
    whole.finish ??= delta.finish;
  }
}

function addPart(whole: WholeChoice, part: AnswerPart): void {
  switch (part.kind) {
    case 'content':
      whole.text += part.text;
      break;
    case 'reasoning':
      whole.reasoning = (whole.reasoning ?? '') + part.text;
      break;
    case 'call':
      whole.calls.push({ id: part.id, name: part.name, arguments: '' });
      break;
    case 'arguments':
      whole.calls.at(-1)!.arguments += part.text;
      break;
    case 'broken':
      whole.calls.pop();
      whole.text += part.text;
      break;
    case 'call-end':
  }
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
