import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { z } from '@hono/zod-openapi';
import type { Endpoint } from './endpoint.ts';

const PAGE = readFileSync(new URL('../../page/index.html', import.meta.url), 'utf8');

/** As a browser computes it over what an element of the page holds. */
function hashOf(tag: 'script' | 'style'): string {
  const [, text = ''] = new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(PAGE) ?? [];
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** Only what the page itself holds runs, it calls this server alone, and nothing may frame it. */
const HEADERS = {
  'Content-Type': 'text/html; charset=utf-8',
  'Content-Security-Policy': [
    "default-src 'none'",
    `script-src ${hashOf('script')}`,
    `style-src ${hashOf('style')}`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-cache',
};

/** GET /: says what this is, and lets one try it. Needs no key: the same for everybody. */
export function pageEndpoint(): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/',
      summary: 'A page that says what this is, and lets one try it',
      responses: {
        200: { description: 'The page', content: { 'text/html': { schema: z.string() } } },
      },
    },
    handle: (c) => c.body(PAGE, 200, HEADERS),
  };
}
