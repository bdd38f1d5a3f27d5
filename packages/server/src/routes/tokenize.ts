import { ApiError } from '../http/errors.ts';
import { CONVERSATION_BOUNDS, tokenBounds } from '../http/json-bounds.ts';
import { validate } from '../http/validation.ts';
import { checkCounts } from '../openai/body-counts.ts';
import type { ServerContext } from '../openai/context.ts';
import { promptOf } from '../openai/conversation-prompt.ts';
import { FieldCheck } from '../openai/field-check.ts';
import { encode, modelFor } from '../openai/requests.ts';
import {
  DetokenizeRequest,
  DetokenizeResponse,
  TOKENIZE_FIELDS,
  TokenizeRequest,
  TokenizeResponse,
} from '../openai/schema/documents.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

/** Tokens that any model's /detokenize takes, whatever its context. */
const DETOKENIZE_LEAST = 2 ** 16;
/** About a millisecond's work. */
const TEXTS_A_TURN = 512;

/**
 * POST /tokenize, in vLLM's shapes: of text, or of a conversation as the chat endpoint would see
 * it.
 */
export function tokenizeEndpoint(ctx: ServerContext): Endpoint {
  const fields = new FieldCheck(ctx.once, TOKENIZE_FIELDS, false);
  return {
    route: {
      method: 'post',
      path: '/tokenize',
      summary: 'Token ids of a text or a conversation',
      request: { body: { content: jsonContent(TokenizeRequest), required: true } },
      responses: {
        200: { description: 'The token ids', content: jsonContent(TokenizeResponse) },
        ...errorResponses(400, 401, 403, 404, 413, 415),
      },
    },
    handle: async (c) => {
      const { received, value } = await ctx.bodies.read(c, CONVERSATION_BOUNDS);
      checkCounts(value);
      fields.check(c, value);
      const request = validate(TokenizeRequest, value);
      modelFor(ctx, request.model);
      await ctx.bodies.turnFor(received);
      const tokens = Array.from(
        'messages' in request
          ? (await promptOf(ctx, request, received)).tokens
          : await encode(ctx, request.prompt, request.add_special_tokens ?? true, 'prompt'),
      );
      return c.json({
        count: tokens.length,
        max_model_len: ctx.engine.card.maxModelTokens,
        tokens,
        token_strs: request.return_token_strs ? await tokenTexts(ctx, tokens) : null,
      });
    },
  };
}

/** The text of each token, some in each turn of the event loop. */
async function tokenTexts(ctx: ServerContext, tokens: readonly number[]): Promise<string[]> {
  const texts: string[] = [];
  for (const token of tokens) {
    texts.push(ctx.text.tokenizer.decode([token], false));
    if (texts.length % TEXTS_A_TURN === 0) await new Promise((resume) => setImmediate(resume));
  }
  return texts;
}

/** POST /detokenize */
export function detokenizeEndpoint(ctx: ServerContext): Endpoint {
  const bounds = tokenBounds(ctx.engine.card.maxModelTokens);
  return {
    route: {
      method: 'post',
      path: '/detokenize',
      summary: 'Text of token ids',
      request: { body: { content: jsonContent(DetokenizeRequest), required: true } },
      responses: {
        200: { description: 'The text', content: jsonContent(DetokenizeResponse) },
        ...errorResponses(400, 401, 403, 404, 413, 415),
      },
    },
    handle: async (c) => {
      const { value } = await ctx.bodies.read(c, bounds);
      const request = validate(DetokenizeRequest, value);
      modelFor(ctx, request.model);
      const { vocabularySize, maxModelTokens } = ctx.engine.card;
      const most = Math.max(maxModelTokens, DETOKENIZE_LEAST);
      if (request.tokens.length > most) {
        throw new ApiError('invalid_value', `tokens must have at most ${most} entries.`, 'tokens');
      }
      if (request.tokens.some((token) => token >= vocabularySize)) {
        const message = `tokens must hold token ids from 0 to ${vocabularySize - 1}.`;
        throw new ApiError('invalid_value', message, 'tokens');
      }
      return c.json({ prompt: await ctx.text.encoder.decode(request.tokens) });
    },
  };
}
