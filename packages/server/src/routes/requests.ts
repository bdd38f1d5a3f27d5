import { z } from '@hono/zod-openapi';
import { authorizationOf } from '../http/auth.ts';
import { ApiError } from '../http/errors.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import { RequestLifeDocument, RequestList } from '../openai/schema/documents.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

const LIST_MAX = 200;

/** GET /v1/requests: what became of the last requests, newest first; never their text. */
export function requestsEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/requests',
      summary: 'The last requests: times, tokens and what crossed for them',
      request: {
        query: z.object({
          limit: z.coerce.number().int().min(1).max(LIST_MAX).optional(),
          before: z.string().optional(),
        }),
      },
      responses: {
        200: { description: 'Newest first', content: jsonContent(RequestList) },
        ...errorResponses(400, 401),
      },
    },
    handle: (c) => {
      const limit = limitOf(c.req.query('limit'));
      // One more says whether there are more.
      const found = ctx.requests.list(readerOf(c, ctx), limit + 1, c.req.query('before'));
      const data = found.slice(0, limit);
      return c.json({ object: 'list', data, has_more: found.length > limit });
    },
  };
}

/** GET /v1/requests/{id}: one of them. */
export function requestEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/requests/{id}',
      summary: 'One of the last requests',
      request: { params: z.object({ id: z.string() }) },
      responses: {
        200: { description: 'Its life until now', content: jsonContent(RequestLifeDocument) },
        ...errorResponses(401, 404),
      },
    },
    handle: (c) => {
      const life = ctx.requests.get(c.req.param('id')!, readerOf(c, ctx));
      if (life === undefined) {
        throw new ApiError('request_not_found', 'No such request is among the last ones.');
      }
      return c.json(life);
    },
  };
}

/** The tenant whose requests are shown; null: those of all, for operators. */
function readerOf(c: AppContext, { keys }: ServerContext): string | null {
  const authorization = authorizationOf((name) => c.req.header(name));
  return keys.isOperator(authorization) ? null : c.get('tenant');
}

function limitOf(text: string | undefined): number {
  if (text === undefined) return LIST_MAX;
  const limit = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= LIST_MAX) return limit;
  throw new ApiError('invalid_value', `limit must be from 1 to ${LIST_MAX}.`, 'limit');
}
