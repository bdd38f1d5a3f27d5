import { OpenAPIHono } from '@hono/zod-openapi';
import { expect, test } from 'vitest';
import type { AppEnv, ServerContext } from '../openai/context.ts';
import { openApiEndpoint } from './openapi.ts';

test('the document is made once, however often it is asked for', async () => {
  let made = 0;
  const app = new OpenAPIHono<AppEnv>();
  const { handle } = openApiEndpoint({ version: '1.2.3' } as ServerContext, () => {
    made += 1;
    return app;
  });
  app.get('/openapi.json', handle);
  expect(made).toBe(0);
  const documents = [];
  for (let times = 0; times < 3; times++) {
    documents.push(await (await app.request('/openapi.json')).json());
  }
  expect(made).toBe(1);
  expect(documents[0]).toMatchObject({ openapi: '3.1.0', info: { version: '1.2.3' } });
  expect(documents[2]).toEqual(documents[0]);
});
