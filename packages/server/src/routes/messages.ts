import { chatBodyOf, FIELD_NAMES } from '../anthropic/chat-body.ts';
import { MessageEvents, wholeMessage } from '../anthropic/format.ts';
import {
  CountTokensRequest,
  MessageDocument,
  MessageErrorDocument,
  MessageEventDocument,
  MessagesRequest,
  TokenCountDocument,
} from '../anthropic/schema.ts';
import { CONVERSATION_BOUNDS } from '../http/json-bounds.ts';
import { requestIdFrom } from '../http/request-id.ts';
import { validate } from '../http/validation.ts';
import { type AnswerFormat, answer } from '../openai/answer.ts';
import { checkCounts, checkItems } from '../openai/body-counts.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import { promptOf } from '../openai/conversation-prompt.ts';
import { exactBody } from '../openai/exact-body.ts';
import { FieldCheck } from '../openai/field-check.ts';
import { prepareChat, readChat } from '../openai/prepare-chat.ts';
import { inFieldsOf } from '../openai/rename-fields.ts';
import { modelFor } from '../openai/requests.ts';
import { type Endpoint, errorResponsesAs, jsonContent } from './endpoint.ts';

const errorResponses = (...statuses: readonly number[]) =>
  errorResponsesAs(MessageErrorDocument, statuses);

const newId = () => `msg_${requestIdFrom(undefined)}`;

/** Reads a body of Anthropic's API, whose schema is still to be checked. Throws ApiError. */
async function readBody(
  c: AppContext,
  ctx: ServerContext,
  check: FieldCheck,
): Promise<{ readonly received: Uint8Array; readonly value: unknown }> {
  const { received, value } = await ctx.bodies.read(c, CONVERSATION_BOUNDS);
  checkCounts(value);
  checkItems((value as { system?: unknown } | null)?.system, 'system', []);
  check.check(c, value);
  return { received, value };
}

/** POST /v1/messages */
export function messagesEndpoint(ctx: ServerContext): Endpoint {
  const check = new FieldCheck(ctx.once, Object.keys(MessagesRequest.shape), true);
  return {
    route: {
      method: 'post',
      path: '/v1/messages',
      summary: 'Answers a conversation, in blocks and events of Anthropic’s API',
      request: { body: { content: jsonContent(MessagesRequest), required: true } },
      responses: {
        200: {
          description: 'The message, or with stream: true its events',
          content: {
            ...jsonContent(MessageDocument),
            'text/event-stream': { schema: MessageEventDocument },
          },
        },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle: async (c) => {
      const { received, value } = await readBody(c, ctx, check);
      const request = validate(MessagesRequest, value);
      const model = modelFor(ctx, request.model);
      await ctx.bodies.turnFor(received);
      const chat = chatBodyOf(exactBody(received));
      const { prepared, fields } = await inFieldsOf(FIELD_NAMES, async () => {
        const fields = readChat(chat);
        const ready = await prepareChat(c, ctx, fields, chat);
        return { ...ready, fields };
      });
      const id = newId();
      const format: AnswerFormat = {
        idFor: () => id,
        chunks: (head) => new MessageEvents(head),
        document: (head, choices, usage) => wholeMessage(head, choices[0]!, usage),
      };
      return answer(c, ctx, { received, fields, model }, prepared, format);
    },
  };
}

/** POST /v1/messages/count_tokens */
export function countTokensEndpoint(ctx: ServerContext): Endpoint {
  const check = new FieldCheck(ctx.once, Object.keys(CountTokensRequest.shape), true);
  return {
    route: {
      method: 'post',
      path: '/v1/messages/count_tokens',
      summary: 'The tokens of the prompt that /v1/messages would make of a conversation',
      request: { body: { content: jsonContent(CountTokensRequest), required: true } },
      responses: {
        200: { description: 'Their number', content: jsonContent(TokenCountDocument) },
        ...errorResponses(400, 401, 403, 404, 413, 415),
      },
    },
    handle: async (c) => {
      const { received, value } = await readBody(c, ctx, check);
      modelFor(ctx, validate(CountTokensRequest, value).model);
      await ctx.bodies.turnFor(received);
      const chat = chatBodyOf(exactBody(received));
      const { tokens } = await inFieldsOf(FIELD_NAMES, () => promptOf(ctx, readChat(chat), chat));
      return c.json({ input_tokens: tokens.length });
    },
  };
}
