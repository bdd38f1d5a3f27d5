import { type OpenAPIHono, z } from '@hono/zod-openapi';
import type { AppEnv, ServerContext } from '../openai/context.ts';
import { type Endpoint, errorResponses } from './endpoint.ts';

/** GET /openapi.json: made from the schemas that check the requests. */
export function openApiEndpoint(ctx: ServerContext, app: () => OpenAPIHono<AppEnv>): Endpoint {
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
      const document = app().getOpenAPI31Document({
        openapi: '3.1.0',
        info: { title: 'Bridgekeeper', version: ctx.version },
        security: [{ bearer: [] }],
      });
      const bearer = { type: 'http', scheme: 'bearer' } as const;
      const components = { ...document.components, securitySchemes: { bearer } };
      return c.json({ ...document, components } as object);
    },
  };
}
