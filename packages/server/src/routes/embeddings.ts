import { ApiError } from '../http/errors.ts';
import { tokenBounds } from '../http/json-bounds.ts';
import { validate } from '../http/validation.ts';
import { type AnswerFormat, answer } from '../openai/answer.ts';
import type { ServerContext } from '../openai/context.ts';
import { FieldCheck } from '../openai/field-check.ts';
import { modelFor } from '../openai/requests.ts';
import {
  checkPrompts,
  type PooledPrompt,
  preparePooling,
  requireTask,
} from '../pooling/prepare.ts';
import { EmbeddingsDocument, EmbeddingsRequest } from '../pooling/schema.ts';
import { shortenedVector } from '../pooling/scoring.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';
import { whole } from './whole-answer.ts';

/** POST /v1/embeddings */
export function embeddingsEndpoint(ctx: ServerContext): Endpoint {
  const fields = new FieldCheck(ctx.once, Object.keys(EmbeddingsRequest.shape), true);
  const bounds = tokenBounds(ctx.engine.card.maxModelTokens);
  return {
    route: {
      method: 'post',
      path: '/v1/embeddings',
      summary: 'Vectors of texts, at length 1',
      request: { body: { content: jsonContent(EmbeddingsRequest), required: true } },
      responses: {
        200: { description: 'One vector for each text', content: jsonContent(EmbeddingsDocument) },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle: async (c) => {
      const { received, value } = await ctx.bodies.read(c, bounds);
      const input = (value as { input?: unknown } | null)?.input;
      if (Array.isArray(input) && typeof input[0] !== 'number') {
        checkPrompts(ctx, input.length, 'input');
      }
      fields.check(c, value);
      const request = validate(EmbeddingsRequest, value);
      const model = modelFor(ctx, request.model);
      requireTask(ctx, 'embed');
      const { hiddenSize } = ctx.engine.card;
      const { dimensions } = request;
      if (dimensions != null && dimensions > hiddenSize) {
        const message = `dimensions must be at most ${hiddenSize}, those that this model has.`;
        throw new ApiError('invalid_value', message, 'dimensions');
      }
      const prepared = await preparePooling(c, ctx, request, promptsOf(request), {
        pooling: { task: 'embed' },
        param: 'input',
        addSpecialTokens: request.add_special_tokens ?? true,
      });
      const isText = request.encoding_format === 'base64';
      const written = (vector: Float32Array) => {
        const wanted = dimensions == null ? vector : shortenedVector(vector, dimensions);
        return isText ? base64(wanted) : Array.from(wanted);
      };
      const format: AnswerFormat = whole('embd', (head, choices, { prompt_tokens }) => ({
        ...head,
        data: choices.map(({ index, pooled }) => ({
          index,
          object: 'embedding',
          embedding: written(pooled!),
        })),
        usage: { prompt_tokens, total_tokens: prompt_tokens },
      }));
      return answer(c, ctx, { received, fields: {}, model }, prepared, format);
    },
  };
}

function promptsOf({ input }: EmbeddingsRequest): readonly PooledPrompt[] {
  const isOne = typeof input === 'string' || typeof input[0] === 'number';
  return (isOne ? [input] : input) as readonly PooledPrompt[];
}

/** Little-endian float32, as OpenAI has it. */
function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, at) => {
    bytes.writeFloatLE(value, at * 4);
  });
  return bytes.toString('base64');
}
