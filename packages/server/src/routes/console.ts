import { type ConsoleFile, readConsole } from '@bridgekeeper/console';
import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import type { AppContext } from '../openai/context.ts';
import { type Endpoint, errorResponses } from './endpoint.ts';

/** Only what this server sends runs, it calls this server alone, and nothing may frame it. */
const HEADERS = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-cache',
};

/** GET /console and what it loads. They need no key: the same for everybody. */
export function consoleEndpoints(): Endpoint[] {
  const files = readConsole();
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
        summary: 'The console: lanes, requests, KV, evidence, chat',
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

function send(c: AppContext, { type, body, etag }: ConsoleFile): Response {
  const headers = { ...HEADERS, ETag: etag };
  if (c.req.header('if-none-match') === etag) return c.body(null, 304, headers);
  return c.body(new Uint8Array(body), 200, { ...headers, 'Content-Type': type });
}
