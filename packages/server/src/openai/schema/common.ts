import { z } from '@hono/zod-openapi';

const flag = () => z.boolean().nullish();
const number = () => z.number().nullish();
const integer = () => z.int().nullish();

const StreamOptions = z
  .object({ include_usage: flag(), continuous_usage_stats: flag() })
  .openapi('StreamOptions');

/**
 * What both generation endpoints take. Types are checked here; the ranges of sampling parameters
 * have one home, the engine's `checkSampling`. Unknown fields are ignored, as OpenAI's and vLLM's
 * servers do.
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
  seed: integer(),
  n: z.int().min(1).max(128).nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(64)]).nullish(),
  stop_token_ids: z.array(z.int()).nullish(),
  include_stop_str_in_output: flag(),
  skip_special_tokens: flag(),
  ignore_eos: flag(),
  min_tokens: integer(),
  stream: flag(),
  stream_options: StreamOptions.nullish(),
  user: z.string().nullish(),
  cache_salt: z
    .string()
    .min(1)
    .max(1024)
    .nullish()
    .openapi({ description: 'Only requests with the same salt share cached prefixes' }),
  request_id: z.string().nullish(),
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
  })
  .openapi('Usage');

/** Whether that is a list of what may be token ids. */
export function isTokenIds(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((id) => Number.isSafeInteger(id) && id >= 0);
}

export const FinishReason = z.enum(['stop', 'length']).nullable();
export const StopReason = z.union([z.string(), z.int()]).nullable();
