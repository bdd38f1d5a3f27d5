import { z } from '@hono/zod-openapi';
import { generationFields } from '../openai/schema/common.ts';

/** What vLLM takes beside OpenAI's fields, with the names and the meaning of a chat. */
const SHARED = [
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'repetition_penalty',
  'presence_penalty',
  'frequency_penalty',
  'logit_bias',
  'bad_words',
  'allowed_token_ids',
  'seed',
  'stop',
  'stop_token_ids',
  'include_stop_str_in_output',
  'skip_special_tokens',
  'ignore_eos',
  'min_tokens',
  'cache_salt',
] as const satisfies readonly (keyof typeof generationFields)[];

type Shared = Pick<typeof generationFields, (typeof SHARED)[number]>;

const sharedFields = Object.fromEntries(
  SHARED.map((name) => [name, generationFields[name]]),
) as Shared;

/** Fields that a response has in common with a chat, by the same names. */
export const CHAT_FIELDS: readonly string[] = [
  ...SHARED,
  'stream',
  'parallel_tool_calls',
  'thinking_budget',
  'chat_template_kwargs',
  'top_logprobs',
];

const Metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((value) => Object.keys(value).length <= 16, 'must have at most 16 entries');

/** What there is nothing of here, and what is in the answer anyway. */
const INCLUDABLE = [
  'message.output_text.logprobs',
  'reasoning.encrypted_content',
  'file_search_call.results',
  'web_search_call.results',
  'web_search_call.action.sources',
  'message.input_image.image_url',
  'computer_call_output.output.image_url',
  'code_interpreter_call.outputs',
] as const;

export const ResponsesRequest = z
  .object({
    model: z.string().nullish(),
    input: z
      .union([z.string(), z.array(z.looseObject({}))])
      .nullish()
      .openapi({
        description:
          'Text, or items of type message, reasoning, function_call, function_call_output or ' +
          'item_reference',
      }),
    instructions: z
      .string()
      .nullish()
      .openapi({ description: 'A system message before everything else, in this answer only' }),
    previous_response_id: z
      .string()
      .nullish()
      .openapi({ description: 'Goes on with the conversation of a response that is kept' }),
    store: z.boolean().nullish().openapi({ description: 'false: nothing is kept' }),
    stream: z.boolean().nullish(),
    stream_options: z.object({ include_obfuscation: z.boolean().nullish() }).nullish(),
    max_output_tokens: z.int().min(1).nullish(),
    tools: z.array(z.looseObject({ type: z.string() })).nullish(),
    tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]).nullish(),
    parallel_tool_calls: z.boolean().nullish(),
    text: z
      .object({
        format: z.looseObject({ type: z.string() }).nullish(),
        verbosity: z.enum(['medium']).nullish(),
      })
      .nullish(),
    reasoning: z
      .object({
        effort: z.string().min(1).max(64).nullish(),
        summary: z.string().max(64).nullish(),
        generate_summary: z.string().max(64).nullish(),
      })
      .nullish(),
    thinking_budget: z
      .int()
      .min(-1)
      .nullish()
      .openapi({ description: 'Tokens of reasoning, after which it is ended; -1: any number' }),
    truncation: z.enum(['disabled', 'auto']).nullish(),
    include: z.array(z.enum(INCLUDABLE)).max(64).nullish(),
    top_logprobs: z.int().min(0).max(20).nullish(),
    metadata: Metadata.nullish(),
    user: z.string().max(512).nullish(),
    safety_identifier: z.string().max(512).nullish(),
    prompt_cache_key: z.string().max(512).nullish(),
    service_tier: z.string().max(64).nullish(),
    chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
    ...sharedFields,
  })
  .openapi('ResponsesRequest');

export type ResponsesRequest = z.output<typeof ResponsesRequest>;

const ResponseUsageDocument = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int(), cache_write_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
});

export type ResponseUsage = z.output<typeof ResponseUsageDocument>;

const status = z.enum(['in_progress', 'completed', 'incomplete', 'failed']);

export const ResponseDocument = z
  .looseObject({
    id: z.string(),
    object: z.literal('response'),
    created_at: z.int(),
    status,
    model: z.string(),
    output: z.array(z.looseObject({ id: z.string(), type: z.string() })),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    incomplete_details: z.object({ reason: z.literal('max_output_tokens') }).nullable(),
    usage: ResponseUsageDocument.nullable(),
  })
  .openapi('Response');

export type ResponseDocument = z.output<typeof ResponseDocument>;

export const ResponseEventDocument = z
  .looseObject({ type: z.string(), sequence_number: z.int() })
  .openapi('ResponseEvent');

export const ResponseDeleted = z
  .object({ id: z.string(), object: z.literal('response'), deleted: z.literal(true) })
  .openapi('ResponseDeleted');

export const ResponseItemsQuery = z.object({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(['asc', 'desc']).default('desc'),
  after: z.string().optional(),
});

export const ResponseItemList = z
  .object({
    object: z.literal('list'),
    data: z.array(z.looseObject({ id: z.string() })),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  })
  .openapi('ResponseItemList');
