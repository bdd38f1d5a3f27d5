// First of all: a response that says "already sent" is known by identity of its header, which must
// exist before the adapter replaces the global Response.
import { invariant } from '@bridgekeeper/bridge';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { ApiError } from '../http/errors.ts';
import { type AnswerHead, type UsageOptions, usageOptions } from './answer-head.ts';
import { type AnswerReceipt, openReceipt } from './answer-receipt.ts';
import { collect, type WholeChoice } from './collect.ts';
import type { AppContext, ServerContext } from './context.ts';
import { Generation, type PreparedGeneration } from './generation.ts';
import type { GenerationFields } from './sampling.ts';
import { type ChunkFormat, SseStream } from './sse.ts';
import type { Usage } from './usage.ts';

/** How an endpoint writes its answers: the chunks of a stream, and a whole document. */
export interface AnswerFormat {
  /** The id of an answer to the request with this id. */
  idFor(requestId: string): string;
  /** Absent: it is never streamed. */
  chunks?(head: AnswerHead, usage: UsageOptions): ChunkFormat;
  document(head: AnswerHead, choices: readonly WholeChoice[], usage: Usage): object;
}

/** A request whose body was read and checked. */
export interface ParsedRequest {
  /** The body as it came. */
  readonly received: Uint8Array;
  readonly fields: GenerationFields;
  /** The name that the model is asked for by. */
  readonly model: string;
}

/** Refuses what streams cannot mean, before any work is done. */
export function checkStreamOptions(fields: GenerationFields): void {
  if (fields.stream === true && fields.prompt_logprobs != null) {
    throw new ApiError(
      'unsupported_value',
      'prompt_logprobs cannot be honoured: streams have none.',
      'prompt_logprobs',
    );
  }
  if (fields.stream_options == null || fields.stream === true) return;
  throw new ApiError(
    'invalid_value',
    'stream_options can only be given with stream: true.',
    'stream_options',
  );
}

/**
 * Runs a prepared generation and sends its answer, whole or as a stream. Throws ApiError while
 * nothing is sent.
 */
export async function answer(
  c: AppContext,
  ctx: ServerContext,
  { received, fields, model }: ParsedRequest,
  prepared: PreparedGeneration,
  format: AnswerFormat,
): Promise<Response> {
  ctx.lifecycle.requireReady();
  const generation = new Generation(prepared, {
    engine: ctx.engine,
    text: ctx.text,
    wakes: ctx.wakes,
    observer: ctx.metrics,
    clock: ctx.clock,
    lifecycle: ctx.lifecycle,
  });
  c.set('generation', generation);
  const id = format.idFor(prepared.requestId);
  const head = { id, created: ctx.clock.unixSeconds(), model };
  const receipt = openReceipt(c, ctx, generation, { received, model });
  if (fields.stream === true) {
    return stream(c, ctx, fields, generation, { format, head, receipt });
  }
  admit(c, ctx, generation);
  const whole = collect(generation, c.env.outgoing);
  opened(c, ctx, generation, head, receipt);
  const choices = await whole;
  if (choices === undefined) return new Response(null, { status: 499 });
  const document = format.document(head, choices, generation.usage());
  if (receipt === null) return c.json(document);
  const text = JSON.stringify(document);
  receipt.sent(text);
  receipt.ended('complete');
  return c.body(text, 200, { 'Content-Type': 'application/json', ...receipt.headers });
}

/** Counts the answer towards its key's limits until it has ended. Throws ApiError. */
function admit(c: AppContext, ctx: ServerContext, generation: Generation): void {
  const { choices } = generation;
  const tokens = choices.reduce((sum, { request }) => sum + request.promptTokens.length, 0);
  const admission = ctx.quotas.admit(c.get('tenant'), choices.length, tokens);
  void generation.settled.then(() => admission.close(generation.usage().completion_tokens));
}

/** An answer is on its way: it is counted, and people may look at it. */
function opened(
  c: AppContext,
  ctx: ServerContext,
  generation: Generation,
  { id, model }: AnswerHead,
  receipt: AnswerReceipt | null,
): void {
  ctx.lifecycle.track(generation);
  const receiptId = receipt?.headers['X-Receipt-Id'] ?? null;
  const [requestId, tenant] = [c.get('requestId'), c.get('tenant')];
  const route = c.req.path;
  const { pageTokens } = ctx.engine.card;
  const about = { id: requestId, answerId: id, tenant, route, model, receiptId, pageTokens };
  ctx.requests.add(about, generation);
}

interface StreamedAs {
  readonly format: AnswerFormat;
  readonly head: AnswerHead;
  readonly receipt: AnswerReceipt | null;
}

function stream(
  c: AppContext,
  ctx: ServerContext,
  fields: GenerationFields,
  generation: Generation,
  { format, head, receipt }: StreamedAs,
): Response {
  const { outgoing } = c.env;
  if (outgoing === undefined || !('setTimeout' in outgoing)) {
    throw new ApiError('unsupported_value', 'stream needs an HTTP/1.1 connection.', 'stream');
  }
  const chunks = format.chunks?.(head, usageOptions(fields.stream_options ?? {}));
  invariant(chunks !== undefined, 'only requests that may be streamed say that they are to be');
  admit(c, ctx, generation);
  const sse = new SseStream(outgoing as never, generation, chunks, ctx.limits, receipt);
  sse.start({ ...c.get('commonHeaders'), ...receipt?.headers });
  opened(c, ctx, generation, head, receipt);
  return RESPONSE_ALREADY_SENT;
}
