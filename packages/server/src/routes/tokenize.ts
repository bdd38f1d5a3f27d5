import { parseJson, readBody, readJson } from '../http/body.ts';
import { ApiError } from '../http/errors.ts';
import { validate } from '../http/validation.ts';
import type { ServerContext } from '../openai/context.ts';
import { renderConversation } from '../openai/conversation.ts';
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

/**
 * POST /tokenize, in vLLM's shapes: of text, or of a conversation as the chat endpoint would see
 * it.
 */
export function tokenizeEndpoint(ctx: ServerContext): Endpoint {
  const fields = new FieldCheck(ctx.log, TOKENIZE_FIELDS, false);
  return {
    route: {
      method: 'post',
      path: '/tokenize',
      summary: 'Token ids of a text or a conversation',
      request: { body: { content: jsonContent(TokenizeRequest), required: true } },
      responses: {
        200: { description: 'The token ids', content: jsonContent(TokenizeResponse) },
        ...errorResponses(400, 401, 404, 413),
      },
    },
    handle: async (c) => {
      const received = await readBody(c, ctx.limits.maxBodyBytes);
      const body = parseJson(received);
      fields.check(c, body);
      const request = validate(TokenizeRequest, body);
      modelFor(ctx, request.model);
      const tokens = Array.from(
        'messages' in request
          ? await encode(
              ctx,
              renderConversation(ctx.text, request, received),
              request.add_special_tokens ?? false,
              'messages',
            )
          : await encode(ctx, request.prompt, request.add_special_tokens ?? true, 'prompt'),
      );
      return c.json({
        count: tokens.length,
        max_model_len: ctx.engine.card.maxModelTokens,
        tokens,
        token_strs: request.return_token_strs
          ? tokens.map((token) => ctx.text.tokenizer.decode([token], false))
          : null,
      });
    },
  };
}

/** POST /detokenize */
export function detokenizeEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'post',
      path: '/detokenize',
      summary: 'Text of token ids',
      request: { body: { content: jsonContent(DetokenizeRequest), required: true } },
      responses: {
        200: { description: 'The text', content: jsonContent(DetokenizeResponse) },
        ...errorResponses(400, 401, 404, 413),
      },
    },
    handle: async (c) => {
      const request = validate(DetokenizeRequest, await readJson(c, ctx.limits.maxBodyBytes));
      modelFor(ctx, request.model);
      const { vocabularySize } = ctx.engine.card;
      if (request.tokens.some((token) => token >= vocabularySize)) {
        const message = `tokens must hold token ids from 0 to ${vocabularySize - 1}.`;
        throw new ApiError('invalid_value', message, 'tokens');
      }
      return c.json({ prompt: ctx.text.tokenizer.decode(request.tokens, false) });
    },
  };
}
