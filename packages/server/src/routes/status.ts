import { z } from '@hono/zod-openapi';
import type { AppContext, ServerContext } from '../openai/context.ts';
import { VersionDocument } from '../openai/schema/documents.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

const HealthDocument = z
  .object({
    status: z.enum(['ready', 'restarting', 'stopping', 'failed']),
    /** Of what is not ready. */
    reason: z.string().optional(),
  })
  .openapi('Health');

/** GET /health: 200 when requests are taken, 503 when they are not. Needs no key. */
export function healthEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/health',
      summary: 'Whether requests are taken',
      responses: {
        200: { description: 'Ready', content: jsonContent(HealthDocument) },
        503: {
          description: 'Restarting its engine, failed or shutting down',
          content: jsonContent(HealthDocument),
        },
      },
    },
    handle: (c: AppContext) => {
      const { health: status, trouble } = ctx.lifecycle;
      if (trouble === null) return c.json({ status }, 200);
      const { retryAfterSeconds, reason } = trouble;
      if (retryAfterSeconds !== undefined) c.header('Retry-After', String(retryAfterSeconds));
      return c.json({ status, reason }, 503);
    },
  };
}

/** GET /version */
export function versionEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/version',
      summary: 'The version of the server',
      responses: {
        200: { description: 'The version', content: jsonContent(VersionDocument) },
        ...errorResponses(401),
      },
    },
    handle: (c) => c.json({ version: ctx.version }),
  };
}

/** GET /metrics */
export function metricsEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/metrics',
      summary: 'Prometheus metrics',
      responses: {
        200: {
          description: "vLLM's core names, and the bridge's under bridgekeeper:",
          content: { 'text/plain': { schema: z.string() } },
        },
        ...errorResponses(401, 403),
      },
    },
    forOperator: true,
    handle: async (c) =>
      c.body(await ctx.metrics.text(), 200, { 'Content-Type': ctx.metrics.contentType }),
  };
}
