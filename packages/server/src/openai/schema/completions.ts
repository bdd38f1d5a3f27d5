import { z } from '@hono/zod-openapi';
import {
  FinishReason,
  generationFields,
  PromptLogprobsDocument,
  StopReason,
  TokenIdsDocument,
  UsageDocument,
} from './common.ts';

const TokenIds = z.array(z.int().min(0));

export const CompletionRequest = z
  .object({
    ...generationFields,
    prompt: z
      .union([z.string(), TokenIds, z.array(z.string()).min(1), z.array(TokenIds).min(1)])
      .openapi({ description: 'Text, token ids, or several of one kind' }),
    max_tokens: z.int().min(0).nullish().openapi({ description: '0 only with echo' }),
    logprobs: z.int().min(0).max(20).nullish(),
    echo: z.boolean().nullish(),
    add_special_tokens: z.boolean().nullish(),
  })
  .openapi('CompletionRequest');

export type CompletionRequest = z.output<typeof CompletionRequest>;

const CompletionLogprobsDocument = z
  .object({
    tokens: z.array(z.string()),
    token_logprobs: z.array(z.number().nullable()),
    top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
    text_offset: z.array(z.int()),
  })
  .nullable();

/** The document of an answer and of every chunk of a streamed one. */
export const Completion = z
  .object({
    id: z.string(),
    object: z.literal('text_completion'),
    created: z.int(),
    model: z.string(),
    choices: z.array(
      z.object({
        index: z.int(),
        text: z.string(),
        logprobs: CompletionLogprobsDocument,
        prompt_logprobs: PromptLogprobsDocument.optional(),
        prompt_token_ids: TokenIdsDocument.optional(),
        token_ids: TokenIdsDocument.optional(),
        finish_reason: FinishReason,
        stop_reason: StopReason,
      }),
    ),
    usage: UsageDocument.optional(),
  })
  .openapi('Completion');
