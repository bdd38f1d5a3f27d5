import {
  type ConsoleFile,
  consoleHeaders,
  evidenceOrigin,
  readConsole,
  sentAs,
} from '@bridgekeeper/console';
import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import type { AppContext } from '../openai/context.ts';
import { type Endpoint, errorResponses } from './endpoint.ts';

/** GET /console and what it loads. They need no key: the same for everybody. */
export function consoleEndpoints(): Endpoint[] {
  const files = readConsole('serve');
  const file = (name: string): ConsoleFile => {
    const found = files.get(name);
    if (found !== undefined) return found;
    throw new ApiError('route_not_found', 'The console has no such file: see GET /console.');
  };
  return [
    {
      route: {
        method: 'get',
        path: '/console',
        summary: 'The console: lanes, requests, KV, evidence, chat, plans',
        request: { query: z.object({ evidence: z.string().optional() }) },
        responses: {
          200: { description: 'The page', content: { 'text/html': { schema: z.string() } } },
          ...errorResponses(404),
        },
      },
      handle: (c) => send(c, file('index.html')),
    },
    {
      route: {
        method: 'get',
        path: '/console/{name}',
        summary: 'What the console loads',
        request: { params: z.object({ name: z.string() }) },
        responses: { 200: { description: 'A file of it' }, ...errorResponses(404) },
      },
      handle: (c) => send(c, file(c.req.param('name')!)),
    },
  ];
}

function send(c: AppContext, found: ConsoleFile): Response {
  const { type, etag } = found;
  const headers = { ...consoleHeaders(evidenceOrigin(c.req.query('evidence'))), ETag: etag };
  if (c.req.header('if-none-match') === etag) return c.body(null, 304, headers);
  const { body, headers: packed } = sentAs(found, c.req.header('accept-encoding'));
  return c.body(new Uint8Array(body), 200, { ...headers, ...packed, 'Content-Type': type });
}
