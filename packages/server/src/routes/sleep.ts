import { z } from '@hono/zod-openapi';
import { ApiError } from '../http/errors.ts';
import { validate } from '../http/validation.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';

const SleepQuery = z.strictObject({
  level: z.enum(['1', '2']).default('1').openapi({
    description: '1: weights are kept in host memory; 2: they are read from the folder again',
  }),
  mode: z.enum(['abort', 'wait']).default('abort').openapi({
    description: 'what is in flight ends with an error, or is finished first',
  }),
  kv: z.enum(['drop', 'keep']).default('drop').openapi({
    description: 'keep: KV stays on the device, and prefixes are found after waking up',
  }),
});

const WakeUpQuery = z.strictObject({
  tags: z.string().optional().openapi({ description: 'weights and kv_cache, both or none' }),
});

const TAGS = ['kv_cache', 'weights'];

const SleepingDocument = z.object({ is_sleeping: z.boolean() }).openapi('IsSleeping');

/** POST /sleep: weights and KV leave the device; answers when its memory is free. */
export function sleepEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'post',
      path: '/sleep',
      summary: 'Give the memory of the device back until /wake_up',
      request: { query: SleepQuery },
      responses: { 200: { description: 'It sleeps' }, ...errorResponses(400, 401, 403, 500, 503) },
    },
    forOperator: true,
    handle: async (c: AppContext) => {
      const { level, mode, kv } = validate(SleepQuery, c.req.query());
      const request = { level: level === '1' ? 1 : 2, mode, keepsKv: kv === 'keep' } as const;
      ctx.log.info(`going to sleep at level ${level}, as an operator asks`);
      await ctx.engine.sleep(request);
      ctx.log.info('asleep');
      return c.body(null, 200);
    },
  };
}

/** POST /wake_up: answers when requests are taken again. */
export function wakeUpEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'post',
      path: '/wake_up',
      summary: 'Bring weights and KV back to the device',
      request: { query: WakeUpQuery },
      responses: { 200: { description: 'It serves' }, ...errorResponses(400, 401, 403, 500, 503) },
    },
    forOperator: true,
    handle: async (c: AppContext) => {
      validate(WakeUpQuery, c.req.query());
      const tags = c.req.queries('tags') ?? [];
      if (tags.length > 0 && [...new Set(tags)].toSorted().join() !== TAGS.join()) {
        const message = 'The model wakes up as a whole: name both weights and kv_cache, or none.';
        throw new ApiError('unsupported_value', message, 'tags');
      }
      ctx.log.info('waking up, as an operator asks');
      await ctx.engine.wakeUp();
      ctx.log.info('awake');
      return c.body(null, 200);
    },
  };
}

/** GET /is_sleeping */
export function isSleepingEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/is_sleeping',
      summary: 'Whether the engine sleeps, or is about to',
      responses: {
        200: { description: 'Whether it does', content: jsonContent(SleepingDocument) },
        ...errorResponses(401, 403),
      },
    },
    forOperator: true,
    handle: (c: AppContext) => c.json({ is_sleeping: ctx.engine.isAsleep }),
  };
}
