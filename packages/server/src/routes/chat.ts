import { CONVERSATION_BOUNDS } from '../http/json-bounds.ts';
import { validate } from '../http/validation.ts';
import { type AnswerFormat, answer, checkStreamOptions } from '../openai/answer.ts';
import type { AnswerDetail } from '../openai/answer-head.ts';
import { checkCounts } from '../openai/body-counts.ts';
import { ChatChunks, chatCompletion } from '../openai/chat-format.ts';
import type { ServerContext } from '../openai/context.ts';
import { withExactSeed } from '../openai/exact-body.ts';
import { FieldCheck } from '../openai/field-check.ts';
import { prepareChat } from '../openai/prepare-chat.ts';
import { modelFor } from '../openai/requests.ts';
import {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
} from '../openai/schema/chat.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

function formatFor(ctx: ServerContext, detail: AnswerDetail): AnswerFormat {
  const { text } = ctx;
  return {
    idFor: (requestId) => `chatcmpl-${requestId}`,
    chunks: (head, usage) => new ChatChunks(head, text, usage, detail),
    document: (head, choices, usage) => chatCompletion(head, choices, usage, text, detail),
  };
}

/** POST /v1/chat/completions */
export function chatEndpoint(ctx: ServerContext): Endpoint {
  const fields = new FieldCheck(ctx.once, Object.keys(ChatCompletionRequest.shape), true);
  return {
    route: {
      method: 'post',
      path: '/v1/chat/completions',
      summary: 'Answers a conversation',
      request: { body: { content: jsonContent(ChatCompletionRequest), required: true } },
      responses: {
        200: {
          description: 'The answer, or with stream: true its chunks, ended by data: [DONE]',
          content: {
            ...jsonContent(ChatCompletion),
            'text/event-stream': { schema: ChatCompletionChunk },
          },
        },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle: async (c) => {
      const { received, value } = await ctx.bodies.read(c, CONVERSATION_BOUNDS);
      checkCounts(value);
      fields.check(c, value);
      const request = validate(ChatCompletionRequest, withExactSeed(value, received));
      checkStreamOptions(request);
      const model = modelFor(ctx, request.model);
      await ctx.bodies.turnFor(received);
      const { prepared, detail } = await prepareChat(c, ctx, request, received);
      const parsed = { received, fields: request, model };
      return answer(c, ctx, parsed, prepared, formatFor(ctx, detail));
    },
  };
}
