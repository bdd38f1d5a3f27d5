import { EngineError, type SamplingParams } from '@bridgekeeper/engine';
import type { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import type { ModelText } from '../text/model-text.ts';
import type { generationFields } from './schema/common.ts';

export type GenerationFields = z.output<z.ZodObject<typeof generationFields>>;

/** What an endpoint decides beside the shared fields. */
export interface SamplingChoices {
  /** undefined: what is left of the context. */
  readonly maxTokens: number | undefined;
  readonly logprobs: number | undefined;
  readonly promptLogprobs: number | undefined;
  /** Of `bad_words`. */
  readonly bannedTokenIds: readonly number[];
  /** Tokens that still fit behind the prompt. */
  readonly room: number;
  /** Which of the prompt's choices this is: a given seed is counted up, so that choices differ. */
  readonly choice: number;
}

/**
 * The engine's sampling parameters for one choice: request before model defaults before OpenAI's
 * defaults.
 */
export function samplingOf(
  fields: GenerationFields,
  choices: SamplingChoices,
  text: ModelText,
): SamplingParams {
  const defaults = text.samplingDefaults;
  const topK = fields.top_k ?? defaults.topK ?? 0;
  const room = Math.max(1, choices.room);
  return {
    temperature: fields.temperature ?? defaults.temperature ?? 1,
    topK: topK === -1 ? 0 : topK,
    topP: fields.top_p ?? defaults.topP ?? 1,
    minP: fields.min_p ?? defaults.minP ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? defaults.repetitionPenalty ?? 1,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    logitBias: biasOf(fields.logit_bias ?? {}),
    allowedTokenIds: fields.allowed_token_ids ?? undefined,
    bannedTokenIds: choices.bannedTokenIds,
    seed: seedOf(fields.seed, choices.choice),
    maxTokens: Math.min(choices.maxTokens ?? room, room),
    minTokens: fields.min_tokens ?? 0,
    stopTokenIds: [
      ...new Set([...(fields.ignore_eos ? [] : text.endTokens), ...(fields.stop_token_ids ?? [])]),
    ],
    logprobs: choices.logprobs,
    promptLogprobs: choices.promptLogprobs,
  };
}

function biasOf(bias: Readonly<Record<string, number>>): SamplingParams['logitBias'] {
  return Object.entries(bias).map(([key, value]) => {
    if (!/^\d{1,10}$/.test(key)) {
      throw new EngineError('bad-request', 'logit_bias keys must be token ids', 'logit_bias');
    }
    return [Number(key), value];
  });
}

/**
 * The tokens of `bad_words`: of each word as it is, and as it is behind a space where that is
 * another token, as vLLM reads them. Throws ApiError for a word of several tokens: rows remember no
 * sequences.
 */
export function bannedTokens(
  words: readonly string[],
  { tokenizer }: Pick<ModelText, 'tokenizer'>,
): number[] {
  const banned = new Set<number>();
  words.forEach((word, at) => {
    const bare = word.trimStart();
    const [token, ...more] = tokenizer.encode(bare, false);
    if (token === undefined || more.length > 0) {
      const name = `bad_words.${at}`;
      const message = `${name} cannot be honoured: it is not exactly one token of this model.`;
      throw new ApiError('unsupported_value', message, 'bad_words');
    }
    banned.add(token);
    const spaced = tokenizer.encode(` ${bare}`, false);
    if (spaced.length === 1) banned.add(spaced[0]!);
  });
  return [...banned];
}

/** Without a seed, and with vLLM's -1 for none, the engine draws one; other negative ones wrap. */
function seedOf(seed: number | bigint | null | undefined, choice: number): bigint | undefined {
  if (seed == null || seed === -1) return undefined;
  return BigInt.asUintN(64, BigInt(seed) + BigInt(choice));
}
