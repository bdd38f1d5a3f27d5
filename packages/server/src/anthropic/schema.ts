import { z } from '@hono/zod-openapi';

const Blocks = z.array(z.looseObject({ type: z.string() }));

/** What makes a prompt of a conversation: shared with POST /v1/messages/count_tokens. */
const conversationFields = {
  model: z.string().nullish(),
  messages: z
    .array(z.looseObject({ role: z.string(), content: z.union([z.string(), Blocks]) }))
    .min(1)
    .openapi({ description: 'Content is text, or blocks: text, tool_use, tool_result, thinking' }),
  system: z.union([z.string(), Blocks]).nullish(),
  tools: z.array(z.looseObject({ name: z.string() })).nullish(),
  tool_choice: z
    .object({
      type: z.enum(['auto', 'any', 'tool', 'none']),
      name: z.string().nullish(),
      disable_parallel_tool_use: z.boolean().nullish(),
    })
    .nullish(),
  thinking: z
    .object({
      type: z.enum(['enabled', 'disabled', 'adaptive']),
      budget_tokens: z.int().min(1).nullish(),
      display: z.enum(['summarized', 'omitted']).nullish(),
    })
    .nullish(),
  output_config: z
    .object({
      effort: z.string().min(1).max(64).nullish(),
      format: z.looseObject({ type: z.literal('json_schema') }).nullish(),
    })
    .nullish(),
};

export const CountTokensRequest = z.object(conversationFields).openapi('CountTokensRequest');

export const MessagesRequest = z
  .object({
    ...conversationFields,
    max_tokens: z.int().min(1),
    stop_sequences: z.array(z.string()).max(64).nullish(),
    stream: z.boolean().nullish(),
    temperature: z.number().nullish(),
    top_p: z.number().nullish(),
    top_k: z.int().nullish(),
  })
  .openapi('MessagesRequest');

export type MessagesRequest = z.output<typeof MessagesRequest>;

/** `input_tokens` are those that no cache had. */
const MessageUsageDocument = z.object({
  input_tokens: z.int(),
  cache_creation_input_tokens: z.int(),
  cache_read_input_tokens: z.int(),
  output_tokens: z.int(),
});

export type MessageUsage = z.output<typeof MessageUsageDocument>;

export const MessageDocument = z
  .object({
    id: z.string(),
    type: z.literal('message'),
    role: z.literal('assistant'),
    model: z.string(),
    content: z.array(z.looseObject({ type: z.enum(['text', 'thinking', 'tool_use']) })),
    stop_reason: z.enum(['end_turn', 'max_tokens', 'stop_sequence', 'tool_use']).nullable(),
    stop_sequence: z.string().nullable(),
    usage: MessageUsageDocument,
  })
  .openapi('Message');

export type MessageDocument = z.output<typeof MessageDocument>;

export const MessageEventDocument = z.looseObject({ type: z.string() }).openapi('MessageEvent');

export const TokenCountDocument = z.object({ input_tokens: z.int() }).openapi('TokenCount');

export const MessageErrorDocument = z
  .object({
    type: z.literal('error'),
    error: z.object({ type: z.string(), message: z.string() }),
    request_id: z.string(),
  })
  .openapi('MessageError');
