import { REFERENCE_PROFILE_NAMES } from '@bridgekeeper/bridge';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { z } from '@hono/zod-openapi';
import { ApiError, toApiError } from '../http/errors.ts';
import type { JsonBounds } from '../http/json-bounds.ts';
import { validate } from '../http/validation.ts';
import type { AppContext, ServerContext } from '../openai/context.ts';
import type { RequestLife } from '../openai/request-log.ts';
import { PlanChoicesDocument } from '../openai/schema/documents.ts';
import type { RunAll } from '../plan/planning.ts';
import { PlanQuestion, planRequestOf } from '../plan/question.ts';
import { type Traffic, whatIf } from '../plan/what-if.ts';
import { type Endpoint, errorResponses, jsonContent } from './endpoint.ts';
import { beginEvents, eventText, whenClosed } from './events.ts';

const BOUNDS: JsonBounds = { maxDepth: 4, maxContainers: 8, maxKeys: 32, maxValues: 64 };
/** Of the last requests, those that the what-if looks at. */
const LOOKED_AT = 200;
const EVENTS = { 'text/event-stream': { schema: z.string() } };

/** GET /v1/plan: what a plan can be asked about. */
export function planChoicesEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'get',
      path: '/v1/plan',
      summary: 'Models, GPUs, laws and engines that a plan can be asked about',
      responses: {
        200: { description: 'Names', content: jsonContent(PlanChoicesDocument) },
        ...errorResponses(401, 403),
      },
    },
    forOperator: true,
    handle: async (c) => {
      const { enginesOf, knownGpus, knownModelNames } = await ctx.planning.planner();
      const served = await ctx.planning.model();
      return c.json({
        served: served === null ? null : served.name,
        models: [...knownModelNames()],
        gpus: knownGpus().map(({ name, title }) => ({ name, title })),
        laws: ['auto', 'off', ...REFERENCE_PROFILE_NAMES],
        engines: [...enginesOf(['all'])],
      });
    },
  };
}

/** POST /v1/plan: what a load would pay, as `bridgekeeper plan` says it; with progress. */
export function planEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'post',
      path: '/v1/plan',
      summary: 'Simulate a load on a machine, beside serving',
      request: { body: { content: jsonContent(PlanQuestion), required: true } },
      responses: {
        200: { description: 'Events progress, then plan or error', content: EVENTS },
        ...errorResponses(400, 401, 403, 413, 415, 429, 503),
      },
    },
    forOperator: true,
    handle: async (c) => {
      ctx.lifecycle.requireReady();
      const { value } = await ctx.bodies.read(c, BOUNDS);
      const question = validate(PlanQuestion, value);
      const planner = await ctx.planning.planner();
      const served = await ctx.planning.model();
      const request = await asked(planner, async () => planRequestOf(question, served, planner));
      return simulated(c, ctx, 'plan', async (runAll, send) =>
        planner.makePlan(request, runAll, (progress) => send('progress', progress)),
      );
    },
  };
}

/** POST /v1/plan/what-if: what the traffic of late would pay under another policy or law. */
export function whatIfEndpoint(ctx: ServerContext): Endpoint {
  return {
    route: {
      method: 'post',
      path: '/v1/plan/what-if',
      summary: 'Simulate the traffic of late under other policies and laws, beside serving',
      responses: {
        200: { description: 'Events progress, then what-if or error', content: EVENTS },
        ...errorResponses(400, 401, 403, 429, 503),
      },
    },
    forOperator: true,
    handle: async (c) => {
      ctx.lifecycle.requireReady();
      const traffic = trafficOf(ctx.requests.list(null, LOOKED_AT));
      if (traffic === null) {
        throw new ApiError('invalid_value', 'No request with two tokens or more has ended yet.');
      }
      const planner = await ctx.planning.planner();
      const model = await ctx.planning.model();
      if (model === null) {
        const message = 'The planner cannot tell the sizes of the model that is served.';
        throw new ApiError('unsupported_value', message);
      }
      const { card } = ctx.engine;
      const { name } = card.device;
      const question = {
        traffic,
        model,
        gpuName: typeof name === 'string' ? name : null,
        policy: ctx.policy.value,
        law: ctx.planning.profile,
        maxRows: card.maxRows,
        pageTokens: card.pageTokens,
      };
      return simulated(c, ctx, 'what-if', async (runAll, send) => {
        const answer = await whatIf(question, planner, runAll, (done, total) =>
          send('progress', { stage: 'loads', done, total }),
        );
        return { measured: traffic, ...answer };
      });
    },
  };
}

/** Means of what has ended, and how much of it there was at a time; null: nothing to go by. */
export function trafficOf(lives: readonly RequestLife[]): Traffic | null {
  const done = lives.filter(
    ({ state, timing, generated_tokens: tokens }) =>
      state === 'done' && timing !== null && tokens >= 2,
  );
  if (done.length === 0) return null;
  const mean = (read: (life: RequestLife) => number) =>
    done.reduce((sum, life) => sum + read(life), 0) / done.length;
  const fromUs = Math.min(...done.map(({ arrived_us: us }) => us));
  const toUs = Math.max(...done.map(({ arrived_us: us, total_ms: ms }) => us + ms * 1e3));
  const openMs = done.reduce((sum, { total_ms: ms }) => sum + ms, 0);
  return {
    requests: done.length,
    promptTokens: mean(({ prompt_tokens: tokens }) => tokens),
    outputTokens: mean(({ generated_tokens: tokens }) => tokens),
    concurrency: Math.max(1, (openMs * 1e3) / Math.max(1, toUs - fromUs)),
    tokenNs: mean(
      ({ timing, generated_tokens: tokens }) => (timing!.decode_ms * 1e6) / (tokens - 1),
    ),
  };
}

type Planner = typeof import('@bridgekeeper/planner');

/** What the planner refuses is the client's to mend. */
async function asked<T>({ PlanError }: Planner, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    throw new ApiError('invalid_value', `${error.message}.`, undefined, { cause: error });
  }
}

type Send = (event: string, data: object) => void;

/** Tells how far it is, and ends with what came out, or why nothing did. */
async function simulated(
  c: AppContext,
  ctx: ServerContext,
  event: string,
  work: (runAll: RunAll, send: Send) => Promise<object>,
): Promise<Response> {
  const gone = new AbortController();
  const planner = await ctx.planning.planner();
  let outgoing: ReturnType<typeof beginEvents> | undefined;
  const result = ctx.planning.run(gone.signal, (runAll) => {
    // Whoever is refused is told so by status.
    outgoing = beginEvents(c);
    const stream = outgoing;
    const closed = whenClosed(stream);
    void closed.then(() => gone.abort());
    ctx.lifecycle.track({ settled: closed, fail: () => stream.destroy() });
    const send: Send = (name, data) => void stream.write(eventText(name, data));
    return asked(planner, () => work(runAll, send));
  });
  const settled = result.then(
    (answer) => outgoing!.end(eventText(event, answer)),
    (error: unknown) => {
      if (outgoing === undefined) throw error;
      const { body } = toApiError(error);
      outgoing.end(eventText('error', body.error));
    },
  );
  await settled;
  return RESPONSE_ALREADY_SENT;
}
