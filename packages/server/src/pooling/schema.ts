import { z } from '@hono/zod-openapi';
import { isTokenIds } from '../openai/schema/common.ts';

const TokenIds = z.custom<readonly number[]>(
  (value) => isTokenIds(value) && (value as readonly number[]).length > 0,
  'must be an array of token ids',
);

/** What all requests that pool prompts take. */
const common = {
  model: z.string().nullish().openapi({ description: 'One of GET /v1/models; default: the first' }),
  truncate_prompt_tokens: z
    .int()
    .min(-1)
    .refine((value) => value !== 0, 'must be -1 or at least 1')
    .nullish()
    .openapi({ description: 'Keeps the first tokens; -1: as many as the context holds' }),
  user: z.string().nullish(),
  cache_salt: z.string().min(1).max(1024).nullish(),
  request_id: z.string().nullish(),
};

export const EmbeddingsRequest = z
  .object({
    ...common,
    input: z
      .union([z.string(), TokenIds, z.array(z.string()).min(1), z.array(TokenIds).min(1)])
      .openapi({
        type: 'array',
        description: 'A text, token ids, or an array of either',
      }),
    encoding_format: z.enum(['float', 'base64']).nullish(),
    dimensions: z
      .int()
      .min(1)
      .nullish()
      .openapi({ description: 'Only the first of them, at length 1 again (Matryoshka)' }),
    add_special_tokens: z.boolean().nullish(),
  })
  .openapi('EmbeddingsRequest');

export type EmbeddingsRequest = z.output<typeof EmbeddingsRequest>;

const Texts = z.union([z.string(), z.array(z.string()).min(1)]);

const instruction = z
  .string()
  .max(4096)
  .nullish()
  .openapi({ description: 'What makes a document fit a query; default: the model’s own' });

export const ScoreRequest = z
  .object({
    ...common,
    text_1: Texts.nullish().openapi({ description: 'Also as queries' }),
    text_2: Texts.nullish().openapi({ description: 'Also as documents' }),
    queries: Texts.nullish(),
    documents: Texts.nullish(),
    instruction,
  })
  .openapi('ScoreRequest');

export type ScoreRequest = z.output<typeof ScoreRequest>;

export const RerankRequest = z
  .object({
    ...common,
    query: z.string(),
    documents: z.array(z.union([z.string(), z.object({ text: z.string() })])).min(1),
    top_n: z.int().min(0).nullish().openapi({ description: '0: all of them' }),
    return_documents: z.boolean().nullish(),
    instruction,
  })
  .openapi('RerankRequest');

export type RerankRequest = z.output<typeof RerankRequest>;

const PoolingUsage = z.object({ prompt_tokens: z.int(), total_tokens: z.int() });

const head = { id: z.string(), object: z.literal('list'), created: z.int(), model: z.string() };

export const EmbeddingsDocument = z
  .object({
    ...head,
    data: z.array(
      z.object({
        index: z.int(),
        object: z.literal('embedding'),
        embedding: z.union([z.array(z.number()), z.string()]),
      }),
    ),
    usage: PoolingUsage,
  })
  .openapi('Embeddings');

export const ScoreDocument = z
  .object({
    ...head,
    data: z.array(z.object({ index: z.int(), object: z.literal('score'), score: z.number() })),
    usage: PoolingUsage,
  })
  .openapi('Scores');

export const RerankDocument = z
  .object({
    id: z.string(),
    model: z.string(),
    usage: PoolingUsage,
    results: z.array(
      z.object({
        index: z.int(),
        document: z.object({ text: z.string() }).optional(),
        relevance_score: z.number(),
      }),
    ),
  })
  .openapi('Ranking');
