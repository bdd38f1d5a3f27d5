import type { ServerResponse } from 'node:http';
import { ApiError } from '../http/errors.ts';
import type { AppContext } from '../openai/context.ts';

/** Begins an answer of server-sent events, past the framework. Throws ApiError. */
export function beginEvents(c: AppContext): ServerResponse {
  const outgoing = c.env.outgoing as ServerResponse | undefined;
  if (outgoing === undefined) throw new ApiError('internal_error', 'There is no connection.');
  outgoing.writeHead(200, {
    ...c.get('commonHeaders'),
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-cache',
    'X-Accel-Buffering': 'no',
  });
  return outgoing;
}

/** Resolves once the answer is over or its client has left, also where that was before. */
export function whenClosed(outgoing: ServerResponse): Promise<void> {
  // Node tells of it once: whoever listens later would wait for ever.
  if (outgoing.destroyed) return Promise.resolve();
  return new Promise((resolve) => outgoing.once('close', () => resolve()));
}

export function eventText(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
