import { ReceiptTicket, requestDigest } from '../receipts/ticket.ts';
import type { AppContext, ServerContext } from './context.ts';
import type { Generation } from './generation.ts';
import type { StreamRecorder } from './sse.ts';

/** The receipt of one answer, from before its first byte to its end. */
export interface AnswerReceipt extends StreamRecorder {
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Opens the receipt of an answer to a body that came; null: the server gives none, or cannot keep
 * one now. The headers say where it will be kept: what is only in memory ends with the server.
 */
export function openReceipt(
  c: AppContext,
  ctx: ServerContext,
  generation: Generation,
  { received, model }: { readonly received: Uint8Array; readonly model: string },
): AnswerReceipt | null {
  if (!ctx.receipts?.promise()) return null;
  const kept = ctx.receipts.path === null ? 'memory' : 'disk';
  const ticket = new ReceiptTicket(ctx.receipts, {
    tenant: c.get('tenant'),
    requestSha256: requestDigest(received),
    model,
    modelDigest: ctx.modelDigest,
    policy: ctx.policy.value,
    law: ctx.law.value,
    ...(ctx.replica === null ? {} : { replica: ctx.replica }),
  });
  return {
    headers: { 'X-Receipt-Id': ticket.id, 'X-Receipt-Kept': kept },
    sent: (text) => ticket.sent(text),
    ended: (outcome) => {
      // What crossed for it is known when the engine is done with it, also where no client waits.
      void generation.settled.then(() => {
        const usage = generation.usage();
        const kv = generation.kvShares();
        const restarts = ctx.restarts?.restarts.count ?? 0;
        ticket.issue({
          outcome,
          createdAt: ctx.clock.unixSeconds(),
          tokens: {
            prompt: usage.prompt_tokens,
            cached: usage.prompt_tokens_details.cached_tokens,
            generated: usage.completion_tokens,
          },
          crossings: generation.crossings(),
          ...(kv.length === 0 ? {} : { kv }),
          ...(restarts === 0 ? {} : { engine: { restarts, isResumed: generation.isResumed } }),
        });
      });
    },
  };
}
