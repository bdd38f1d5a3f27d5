import { MAX_BIAS, MAX_TOP_LOGPROBS } from '@bridgekeeper/device';
import { z } from '@hono/zod-openapi';

const flag = () => z.boolean().nullish();
const number = () => z.number().nullish();
const integer = () => z.int().nullish();

const StreamOptions = z
  .object({ include_usage: flag(), continuous_usage_stats: flag() })
  .openapi('StreamOptions');

/** A JSON schema, as it is or as its text. */
const schema = () =>
  z
    .union([z.record(z.string(), z.unknown()), z.boolean(), z.string()])
    .openapi({ type: ['object', 'boolean', 'string'] });
const choices = () => z.array(z.string()).min(1).max(20_000);
const structuralTag = () =>
  z
    .union([z.record(z.string(), z.unknown()), z.string()])
    .openapi({ type: ['object', 'string'], description: 'An object, or its text' });

const ResponseFormat = z
  .looseObject({
    type: z.string(),
    json_schema: z.looseObject({ schema: schema().nullish() }).nullish(),
    schema: schema().nullish(),
  })
  .openapi('ResponseFormat', {
    description: 'text, json_object, json_schema or structural_tag',
  });

const StructuredOutputs = z
  .looseObject({
    json: schema().nullish(),
    regex: z.string().nullish(),
    choice: choices().nullish(),
    grammar: z.string().nullish(),
    json_object: flag(),
    structural_tag: structuralTag().nullish(),
    disable_any_whitespace: flag().openapi({
      description: 'Both are so: one space behind a comma or colon, or none',
    }),
    disable_fallback: flag(),
    property_order: z
      .enum(['declared', 'free'])
      .nullish()
      .openapi({ description: 'Of JSON objects: as the schema has it (default), or any' }),
  })
  .openapi('StructuredOutputs', { description: 'One of json, regex, choice, grammar, ...' });

const SEED_LIMIT = 2n ** 63n;

/** 64 bits, signed as in vLLM; beyond 2^53 a bigint, which `withExactSeed` reads. */
const Seed = z
  .custom<number | bigint>(
    (value) =>
      Number.isSafeInteger(value) ||
      (typeof value === 'bigint' && value >= -SEED_LIMIT && value < SEED_LIMIT),
    'must be an integer of 64 bits, from -2^63 to 2^63 - 1',
  )
  .openapi({ type: 'integer', format: 'int64' });

/**
 * What both generation endpoints take. Types are checked here; the ranges of sampling parameters
 * have one home, the engine's `checkSampling`. Fields that are not here are `FIELDS`' business, or
 * unknown.
 */
export const generationFields = {
  model: z.string().nullish().openapi({ description: 'One of GET /v1/models; default: the first' }),
  temperature: number().openapi({ description: '0 is greedy' }),
  top_p: number(),
  top_k: integer().openapi({ description: '0 or -1: off' }),
  min_p: number(),
  repetition_penalty: number(),
  presence_penalty: number(),
  frequency_penalty: number(),
  logit_bias: z
    .record(z.string(), z.number())
    .nullish()
    .openapi({ description: 'From token id, as text, to bias' }),
  bad_words: z
    .array(z.string().min(1).max(128))
    .max(100)
    .nullish()
    .openapi({ description: 'Never sampled; each must be one token' }),
  allowed_token_ids: z
    .array(z.int().min(0))
    .min(1)
    .max(MAX_BIAS)
    .nullish()
    .openapi({ description: 'Nothing else is sampled' }),
  seed: Seed.nullish(),
  n: z.int().min(1).max(128).nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(64)]).nullish(),
  stop_token_ids: z.array(z.int()).nullish(),
  include_stop_str_in_output: flag(),
  skip_special_tokens: flag(),
  ignore_eos: flag(),
  min_tokens: integer(),
  stream: flag(),
  stream_options: StreamOptions.nullish(),
  prompt_logprobs: z
    .int()
    .min(0)
    .max(MAX_TOP_LOGPROBS)
    .nullish()
    .openapi({ description: 'Of each prompt token and so many alternatives; not in streams' }),
  truncate_prompt_tokens: z
    .int()
    .min(-1)
    .refine((value) => value !== 0, 'must be -1 or at least 1')
    .nullish()
    .openapi({ description: 'Keeps the prompt’s last tokens; -1: as many as fit' }),
  return_token_ids: flag().openapi({ description: 'Adds prompt_token_ids and token_ids' }),
  return_tokens_as_token_ids: flag().openapi({
    description: 'Logprobs name tokens "token_id:123"',
  }),
  cache_salt: z
    .string()
    .min(1)
    .max(1024)
    .nullish()
    .openapi({ description: 'Only requests with the same salt share cached prefixes' }),
  request_id: z.string().nullish(),
  response_format: ResponseFormat.nullish(),
  structured_outputs: StructuredOutputs.nullish(),
  guided_json: schema().nullish(),
  guided_regex: z.string().nullish(),
  guided_choice: choices().nullish(),
  guided_grammar: z.string().nullish(),
  structural_tag: structuralTag().nullish(),
  json_schema: schema().nullish(),
  regex: z.string().nullish(),
  ebnf: z.string().nullish(),
  grammar: z.string().nullish().openapi({ description: 'EBNF of llama.cpp, XGrammar or Lark' }),
};

export const ErrorDocument = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string(),
    }),
  })
  .openapi('Error');

export const UsageDocument = z
  .object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({ cached_tokens: z.int() }),
    completion_tokens_details: z.object({ reasoning_tokens: z.int() }).optional(),
  })
  .openapi('Usage');

/** Of `prompt_logprobs`: by token id; null for the first token, which nothing predicts. */
export const PromptLogprobsDocument = z.array(
  z
    .record(z.string(), z.object({ logprob: z.number(), rank: z.int(), decoded_token: z.string() }))
    .nullable(),
);

/** Of `return_token_ids`. */
export const TokenIdsDocument = z.array(z.int());
/** Whether that is a list of what may be token ids. */
export function isTokenIds(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((id) => Number.isSafeInteger(id) && id >= 0);
}

export const FinishReason = z.enum(['stop', 'length']).nullable();
export const ChatFinishReason = z.enum(['stop', 'length', 'tool_calls']).nullable();
export const StopReason = z.union([z.string(), z.int()]).nullable();
