import { type Dict, readJsonValue } from '@bridgekeeper/engine/text';
import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import { CONVERSATION_BOUNDS } from '../http/json-bounds.ts';
import { requestIdFrom } from '../http/request-id.ts';
import { validate } from '../http/validation.ts';
import { type AnswerFormat, answer } from '../openai/answer.ts';
import { BODY_COUNTS, checkCounts, checkItems } from '../openai/body-counts.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import { promptOf } from '../openai/conversation-prompt.ts';
import { exactBody, withExactSeed } from '../openai/exact-body.ts';
import { plainValue } from '../openai/exact-values.ts';
import { FieldCheck } from '../openai/field-check.ts';
import { prepareChat, readChat } from '../openai/prepare-chat.ts';
import { inFieldsOf } from '../openai/rename-fields.ts';
import { modelFor } from '../openai/requests.ts';
import { chatBodyOf, FIELD_NAMES } from '../responses/chat-body.ts';
import { ResponseEvents, type ResponseFrame, wholeResponse } from '../responses/format.ts';
import { itemsOf, messagesOf, withIds } from '../responses/items.ts';
import {
  ResponseDeleted,
  ResponseDocument,
  ResponseEventDocument,
  ResponseItemList,
  ResponseItemsQuery,
  ResponsesRequest,
} from '../responses/schema.ts';
import { fitting } from '../responses/truncate.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

const newId = (prefix: string) => `${prefix}_${requestIdFrom(undefined)}`;

/** POST /v1/responses */
export function responsesEndpoint(ctx: ServerContext): Endpoint {
  const check = new FieldCheck(ctx.once, Object.keys(ResponsesRequest.shape), true);
  return {
    route: {
      method: 'post',
      path: '/v1/responses',
      summary: 'Answers a conversation, in items and events of OpenAI’s Responses API',
      request: { body: { content: jsonContent(ResponsesRequest), required: true } },
      responses: {
        200: {
          description: 'The response, or with stream: true its events',
          content: {
            ...jsonContent(ResponseDocument),
            'text/event-stream': { schema: ResponseEventDocument },
          },
        },
        ...errorResponses(400, 401, 403, 404, 413, 415, 429, 500, 503),
      },
    },
    handle: async (c) => {
      const { received, value } = await ctx.bodies.read(c, CONVERSATION_BOUNDS);
      checkCounts(value);
      checkItems((value as { input?: unknown } | null)?.input, 'input', ITEM_PARTS);
      check.check(c, value);
      const request = validate(ResponsesRequest, withExactSeed(value, received));
      const model = modelFor(ctx, request.model);
      const tenant = c.get('tenant');
      await ctx.bodies.turnFor(received);
      const body = exactBody(received);
      const earlier = conversationBefore(ctx, tenant, request.previous_response_id);
      const input = itemsOf(body.get('input'), (ids) => ctx.responses.findItems(tenant, ids));
      if (earlier.length + input.length === 0) {
        throw new ApiError('invalid_value', 'input is required.', 'input');
      }
      checkLength(earlier.length + input.length);
      const messages = [
        ...messagesOf(earlier, 'previous_response_id'),
        ...messagesOf(input, 'input'),
      ];
      const chat = chatBodyOf(body, messages);
      const { prepared, detail, fields } = await inFieldsOf(FIELD_NAMES, async () => {
        const fields = readChat(chat);
        const render = request.truncation === 'auto' ? fitting : promptOf;
        const ready = await prepareChat(c, ctx, fields, chat, render);
        return { ...ready, fields };
      });
      const isKept = request.store !== false && ctx.responses.isOpen;
      const frame: ResponseFrame = {
        fields: fieldsOf(ctx, request, isKept),
        text: ctx.text,
        detail,
        newId,
        onEnd: (response) => {
          if (isKept) keep(ctx, tenant, { earlier, input, response });
        },
      };
      const id = newId('resp');
      const format: AnswerFormat = {
        idFor: () => id,
        chunks: (head) => new ResponseEvents(head, frame),
        document: (head, choices, usage) => wholeResponse(head, frame, choices[0]!, usage),
      };
      return answer(c, ctx, { received, fields, model }, prepared, format);
    },
  };
}

/** Fields of items that may have many parts. */
const ITEM_PARTS = ['content', 'output', 'summary'] as const;

function checkLength(items: number): void {
  if (items <= BODY_COUNTS.messages) return;
  const message = `the conversation must have at most ${BODY_COUNTS.messages} items.`;
  throw new ApiError('invalid_value', `With previous_response_id, ${message}`, 'input');
}

function conversationBefore(
  ctx: ServerContext,
  tenant: string,
  id: string | null | undefined,
): readonly Dict[] {
  if (id == null) return [];
  const kept = ctx.responses.find(tenant, id);
  if (kept !== undefined) return kept.conversation;
  throw new ApiError(
    'response_not_found',
    'previous_response_id names no response that is kept here: send its conversation again.',
    'previous_response_id',
  );
}

/** What a response says of its request. */
function fieldsOf(
  ctx: ServerContext,
  request: ResponsesRequest,
  isKept: boolean,
): object & ResponseFrame['fields'] {
  const { samplingDefaults } = ctx.text;
  return {
    background: false,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    max_tool_calls: null,
    metadata: request.metadata ?? {},
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: request.previous_response_id ?? null,
    prompt_cache_key: request.prompt_cache_key ?? null,
    reasoning: { effort: request.reasoning?.effort ?? null, summary: null },
    safety_identifier: request.safety_identifier ?? null,
    service_tier: 'default',
    store: isKept,
    temperature: request.temperature ?? samplingDefaults.temperature ?? 1,
    text: { format: request.text?.format ?? { type: 'text' }, verbosity: 'medium' },
    tool_choice: request.tool_choice ?? 'auto',
    tools: request.tools ?? [],
    top_logprobs: request.top_logprobs ?? 0,
    top_p: request.top_p ?? samplingDefaults.topP ?? 1,
    truncation: request.truncation ?? 'disabled',
    user: request.user ?? null,
  };
}

function keep(
  ctx: ServerContext,
  tenant: string,
  said: {
    readonly earlier: readonly Dict[];
    readonly input: readonly Dict[];
    readonly response: ResponseDocument;
  },
): void {
  const { earlier, response } = said;
  const input = withIds(said.input, newId);
  const output = readJsonValue(JSON.stringify(response.output)) as Dict[];
  const conversation = [...earlier, ...input, ...output];
  ctx.responses.keep(tenant, { response, input, output, conversation });
}

const IdParam = z.object({ id: z.string() });

function keptOf(c: AppContext, ctx: ServerContext) {
  const id = c.req.param('id')!;
  const kept = ctx.responses.find(c.get('tenant'), id);
  if (kept !== undefined) return kept;
  throw new ApiError('response_not_found', 'No response with this id is kept here.', 'id');
}

/** GET /v1/responses/{id} */
export function responseEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/responses/{id}',
      summary: 'A response that is kept',
      request: { params: IdParam },
      responses: {
        200: { description: 'The response', content: jsonContent(ResponseDocument) },
        ...errorResponses(400, 401, 404),
      },
    },
    handle: (c) => {
      if (c.req.query('stream') === 'true') {
        const message = 'stream cannot be honoured: what is kept here has ended.';
        throw new ApiError('unsupported_value', message, 'stream');
      }
      return c.json(keptOf(c, ctx).response);
    },
  };
}

/** DELETE /v1/responses/{id} */
export function deleteResponseEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'delete',
      path: '/v1/responses/{id}',
      summary: 'Forgets a response; those that go on from it keep what was said',
      request: { params: IdParam },
      responses: {
        200: { description: 'It is forgotten', content: jsonContent(ResponseDeleted) },
        ...errorResponses(401, 404),
      },
    },
    handle: (c) => {
      const { id } = keptOf(c, ctx).response;
      ctx.responses.remove(c.get('tenant'), id);
      return c.json({ id, object: 'response', deleted: true });
    },
  };
}

/** POST /v1/responses/{id}/cancel: only what runs in the background can be, and nothing does. */
export function cancelResponseEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'post',
      path: '/v1/responses/{id}/cancel',
      summary: 'Refused: what is kept has ended, and an answer ends when its client leaves',
      request: { params: IdParam },
      responses: errorResponses(400, 401, 404),
    },
    handle: (c) => {
      keptOf(c, ctx);
      const message = 'This response has ended: only a response in the background is cancelled.';
      throw new ApiError('unsupported_value', message, 'id');
    },
  };
}

/** GET /v1/responses/{id}/input_items */
export function responseItemsEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/responses/{id}/input_items',
      summary: 'The items that a response was made from, the latest first',
      request: { params: IdParam, query: ResponseItemsQuery },
      responses: {
        200: { description: 'Some of the items', content: jsonContent(ResponseItemList) },
        ...errorResponses(400, 401, 404),
      },
    },
    handle: (c) => {
      const { limit, order, after } = validate(ResponseItemsQuery, c.req.query());
      const { conversation, output } = keptOf(c, ctx);
      const items = conversation.slice(0, conversation.length - output.length);
      const ordered = order === 'asc' ? items : items.toReversed();
      const at =
        after === undefined ? 0 : ordered.findIndex((item) => item.get('id') === after) + 1;
      if (after !== undefined && at === 0) {
        throw new ApiError('invalid_value', 'after names no item of this response.', 'after');
      }
      const data = ordered.slice(at, at + limit).map((item) => plainValue(item) as { id: string });
      return c.json({
        object: 'list',
        data,
        first_id: data[0]?.id ?? null,
        last_id: data.at(-1)?.id ?? null,
        has_more: at + limit < ordered.length,
      });
    },
  };
}
