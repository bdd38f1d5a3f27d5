import { type OpenAPIHono, z } from '@hono/zod-openapi';
import type { AppEnv, ServerContext } from '../openai/context.ts';
import { type Endpoint, errorResponses } from './endpoint.ts';

/** GET /openapi.json: made from the schemas that check the requests. */
export function openApiEndpoint(ctx: ServerContext, app: () => OpenAPIHono<AppEnv>): Endpoint {
  let bytes: Buffer<ArrayBuffer> | undefined;
  return {
    route: {
      method: 'get',
      path: '/openapi.json',
      summary: 'This document',
      responses: {
        200: {
          description: 'OpenAPI 3.1',
          content: { 'application/json': { schema: z.looseObject({}) } },
        },
        ...errorResponses(401),
      },
    },
    handle: (c) => {
      // As bytes, that many answers share.
      bytes ??= Buffer.from(JSON.stringify(documentOf(ctx, app())));
      return c.body(bytes, 200, { 'Content-Type': 'application/json' });
    },
  };
}

function documentOf(ctx: ServerContext, app: OpenAPIHono<AppEnv>): object {
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: { title: 'Bridgekeeper', version: ctx.version },
    security: [{ bearer: [] }],
  });
  const bearer = { type: 'http', scheme: 'bearer' } as const;
  return { ...document, components: { ...document.components, securitySchemes: { bearer } } };
}
