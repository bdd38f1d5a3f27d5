import { basename } from 'node:path';
import { z } from '@hono/zod-openapi';
import type { ServerContext } from '../openai/context.ts';
import { modelFor } from '../openai/requests.ts';
import { ModelDocument, ModelList } from '../openai/schema/documents.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

function describe(ctx: ServerContext, id: string): z.output<typeof ModelDocument> {
  const { modelPath, maxModelTokens, sealRoot } = ctx.engine.card;
  return {
    id,
    object: 'model',
    created: ctx.startedSeconds,
    owned_by: 'bridgekeeper',
    // The folder's name, not its path: where it lies is the operator's business.
    root: basename(modelPath),
    parent: null,
    max_model_len: maxModelTokens,
    seal_root: sealRoot,
  };
}

/** GET /v1/models */
export function modelsEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/models',
      summary: 'The names the model is served under',
      responses: {
        200: { description: 'All names', content: jsonContent(ModelList) },
        ...errorResponses(401),
      },
    },
    handle: (c) =>
      c.json({ object: 'list', data: ctx.modelNames.map((name) => describe(ctx, name)) }),
  };
}

/** GET /v1/models/{id}; names may hold slashes. */
export function modelEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/models/{id}',
      summary: 'One of those names',
      request: { params: z.object({ id: z.string() }) },
      responses: {
        200: { description: 'The model', content: jsonContent(ModelDocument) },
        ...errorResponses(401, 404),
      },
    },
    handle: (c) => c.json(describe(ctx, modelFor(ctx, c.req.param('id')))),
  };
}
