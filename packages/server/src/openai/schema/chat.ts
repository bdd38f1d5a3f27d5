import { z } from '@hono/zod-openapi';
import {
  ChatFinishReason,
  generationFields,
  PromptLogprobsDocument,
  StopReason,
  TokenIdsDocument,
  UsageDocument,
} from './common.ts';

const ContentPart = z.looseObject({
  type: z.string(),
  text: z.string().optional(),
  refusal: z.string().optional(),
});

const ToolCall = z.looseObject({
  function: z
    .looseObject({
      arguments: z
        .union([z.string(), z.record(z.string(), z.unknown())])
        .nullish()
        .openapi({ description: 'A JSON object, as text or as it is' }),
    })
    .optional(),
});

export const ChatMessage = z
  .looseObject({
    role: z.string().min(1).max(64),
    content: z.union([z.string(), z.array(ContentPart)]).nullish(),
    tool_calls: z.array(ToolCall).nullish(),
    reasoning: z.string().nullish(),
    reasoning_content: z.string().nullish(),
  })
  .openapi('ChatMessage', { description: 'Content is text, or parts of type text or refusal' });

/** What makes a prompt of a conversation: shared with POST /tokenize. */
export const conversationFields = {
  messages: z.array(ChatMessage).min(1),
  tools: z
    .array(z.looseObject({}))
    .nullish()
    .openapi({ description: 'Given to the chat template; what the model may call' }),
  documents: z
    .array(z.looseObject({}))
    .nullish()
    .openapi({ description: 'Given to the chat template, which must use them' }),
  reasoning_effort: z
    .string()
    .min(1)
    .max(64)
    .nullish()
    .openapi({ description: 'Given to the chat template, or whether it lets the model think' }),
  add_generation_prompt: z.boolean().nullish(),
  continue_final_message: z
    .boolean()
    .nullish()
    .openapi({ description: 'Leaves the last message open; with add_generation_prompt: false' }),
  add_special_tokens: z.boolean().nullish(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
};

const NamedFunction = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({ name: z.string() }),
});

const ToolChoice = z
  .union([
    z.enum(['none', 'auto', 'required']),
    NamedFunction,
    z.looseObject({
      type: z.literal('allowed_tools'),
      allowed_tools: z.looseObject({
        mode: z.enum(['auto', 'required']),
        tools: z.array(NamedFunction).min(1),
      }),
    }),
  ])
  .openapi('ToolChoice', { description: 'Default: auto where there are tools' });

export const ChatCompletionRequest = z
  .object({
    ...generationFields,
    ...conversationFields,
    max_tokens: z.int().min(1).nullish(),
    max_completion_tokens: z.int().min(1).nullish(),
    logprobs: z.boolean().nullish(),
    tool_choice: ToolChoice.nullish(),
    parallel_tool_calls: z
      .boolean()
      .nullish()
      .openapi({ description: 'false: the answer ends with its first call' }),
    thinking_budget: z
      .int()
      .min(-1)
      .nullish()
      .openapi({ description: 'Tokens of reasoning, after which it is ended; -1: any number' }),
    thinking_token_budget: z.int().min(-1).nullish(),
    include_reasoning: z
      .boolean()
      .nullish()
      .openapi({ description: 'false: reasoning is left out of the answer' }),
    top_logprobs: z.int().min(0).max(20).nullish(),
    echo: z
      .boolean()
      .nullish()
      .openapi({ description: 'The answer begins with the last message, where that continues it' }),
  })
  .openapi('ChatCompletionRequest');

export type ChatCompletionRequest = z.output<typeof ChatCompletionRequest>;

const TokenLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int()),
});

const ChatLogprobsDocument = z
  .object({
    content: z.array(TokenLogprob.extend({ top_logprobs: z.array(TokenLogprob) })),
  })
  .nullable();

const ToolCallDocument = z.object({
  id: z.string(),
  type: z.literal('function'),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

/** Both names are in use. */
const reasoningFields = {
  reasoning: z.string().optional(),
  reasoning_content: z.string().optional(),
};

const head = { id: z.string(), created: z.int(), model: z.string() };

export const ChatCompletion = z
  .object({
    ...head,
    object: z.literal('chat.completion'),
    choices: z.array(
      z.object({
        index: z.int(),
        message: z.object({
          role: z.literal('assistant'),
          content: z.string().nullable(),
          ...reasoningFields,
          tool_calls: z.array(ToolCallDocument).optional(),
        }),
        logprobs: ChatLogprobsDocument,
        token_ids: TokenIdsDocument.optional(),
        finish_reason: ChatFinishReason,
        stop_reason: StopReason,
      }),
    ),
    prompt_logprobs: PromptLogprobsDocument.optional(),
    prompt_token_ids: TokenIdsDocument.optional(),
    usage: UsageDocument,
  })
  .openapi('ChatCompletion');

export const ChatCompletionChunk = z
  .object({
    ...head,
    object: z.literal('chat.completion.chunk'),
    choices: z.array(
      z.object({
        index: z.int(),
        delta: z.object({
          role: z.literal('assistant').optional(),
          content: z.string().optional(),
          ...reasoningFields,
          tool_calls: z
            .array(
              z.object({
                index: z.int(),
                id: z.string().optional(),
                type: z.literal('function').optional(),
                function: z.object({ name: z.string().optional(), arguments: z.string() }),
              }),
            )
            .optional(),
        }),
        logprobs: ChatLogprobsDocument,
        token_ids: TokenIdsDocument.optional(),
        finish_reason: ChatFinishReason,
        stop_reason: StopReason.optional(),
      }),
    ),
    prompt_token_ids: TokenIdsDocument.optional(),
    usage: UsageDocument.optional(),
  })
  .openapi('ChatCompletionChunk');
