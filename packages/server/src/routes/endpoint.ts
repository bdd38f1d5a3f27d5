import type { RouteConfig, z } from '@hono/zod-openapi';
import type { AppContext } from '../openai/context.ts';
import { ErrorDocument } from '../openai/schema/common.ts';

/** One route: its entry in the OpenAPI document and what answers it. */
export interface Endpoint {
  readonly route: RouteConfig & { readonly method: 'get' | 'post' | 'delete' };
  /** It tells of all tenants. */
  readonly forOperator?: true;
  readonly handle: (c: AppContext) => Response | Promise<Response>;
}

export function jsonContent<S extends z.ZodType>(schema: S) {
  return { 'application/json': { schema } };
}

const ERRORS: Readonly<Record<number, string>> = {
  400: 'The request is malformed or asks for what cannot be done',
  401: 'The API key is missing or unknown',
  403: 'The host, the origin or the key may not do this',
  404: 'No such model, or nothing of that name',
  413: 'The body is too large',
  415: 'The body is not sent as JSON, or compressed',
  429: 'The queue is full',
  500: 'The engine failed',
  503: 'The server is shutting down',
};

/** The error responses of a route, all of OpenAI's shape. */
export function errorResponses(...statuses: readonly number[]): RouteConfig['responses'] {
  return errorResponsesAs(ErrorDocument, statuses);
}

/** The error responses of a route, all of one shape. */
export function errorResponsesAs(
  schema: z.ZodType,
  statuses: readonly number[],
): RouteConfig['responses'] {
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      { description: ERRORS[status]!, content: jsonContent(schema) },
    ]),
  );
}
