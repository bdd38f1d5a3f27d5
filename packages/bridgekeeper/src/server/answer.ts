// First of all: a response that says "already sent" is known by identity of its header, which must
// exist before the adapter replaces the global Response.
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type AnswerHead, type UsageOptions, usageOptions } from './answer-head.ts';
import { collect, type WholeChoice } from './collect.ts';
import type { AppContext, ServerContext } from './context.ts';
import { ApiError } from './errors.ts';
import { Generation, type GenerationPlan } from './generation.ts';
import type { GenerationFields } from './sampling.ts';
import { type ChunkFormat, SseStream } from './sse.ts';
import type { Usage } from './usage.ts';

/** How an endpoint dresses an answer. */
export interface Dress {
  readonly idPrefix: string;
  chunks(head: AnswerHead, usage: UsageOptions): ChunkFormat;
  document(head: AnswerHead, choices: readonly WholeChoice[], usage: Usage): object;
}

/** Refuses what streams cannot mean, before any work is done. */
export function checkStreamOptions(fields: GenerationFields): void {
  if (fields.stream_options == null || fields.stream === true) return;
  throw new ApiError(
    'invalid_value',
    'stream_options can only be given with stream: true.',
    'stream_options',
  );
}

/**
 * Runs a planned answer and sends it, whole or as a stream. Throws ApiError while nothing is sent.
 */
export async function answer(
  c: AppContext,
  ctx: ServerContext,
  fields: GenerationFields,
  model: string,
  plan: GenerationPlan,
  dress: Dress,
): Promise<Response> {
  ctx.lifecycle.requireReady();
  const generation = new Generation(plan, {
    engine: ctx.engine,
    text: ctx.text,
    wakes: ctx.wakes,
    observer: ctx.metrics,
    clock: ctx.clock,
    lifecycle: ctx.lifecycle,
  });
  const id = `${dress.idPrefix}-${plan.requestId}`;
  const head = { id, created: ctx.clock.unixSeconds(), model };
  if (fields.stream === true) return stream(c, ctx, fields, generation, dress, head);
  const whole = collect(generation, c.env.outgoing);
  ctx.lifecycle.track(generation);
  const choices = await whole;
  if (choices === undefined) return new Response(null, { status: 499 });
  return c.json(dress.document(head, choices, generation.usage()));
}

function stream(
  c: AppContext,
  ctx: ServerContext,
  fields: GenerationFields,
  generation: Generation,
  dress: Dress,
  head: AnswerHead,
): Response {
  const { outgoing } = c.env;
  if (outgoing === undefined || !('setTimeout' in outgoing)) {
    throw new ApiError('unsupported_value', 'stream needs an HTTP/1.1 connection.', 'stream');
  }
  const chunks = dress.chunks(head, usageOptions(fields.stream_options ?? {}));
  const sse = new SseStream(outgoing as never, generation, chunks, ctx.limits);
  sse.start(c.get('commonHeaders'));
  ctx.lifecycle.track(generation);
  return RESPONSE_ALREADY_SENT;
}
