import type { IncomingMessage } from 'node:http';
import { ApiError } from '@bridgekeeper/server/edge';

/** Memory for bodies of requests, over all that are open. */
export class BodyBudget {
  readonly #maxBytes: number;
  #usedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Throws ApiError `queue_full` where there is no room. */
  take(bytes: number): void {
    if (this.#usedBytes + bytes > this.#maxBytes) {
      throw new ApiError('queue_full', 'Too much is being sent to this gateway at once.');
    }
    this.#usedBytes += bytes;
  }

  give(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}

/**
 * Reads a whole body of at most `maxBytes`. The caller gives its length back to the budget. Throws
 * ApiError, with nothing taken.
 */
export async function readBody(
  request: IncomingMessage,
  maxBytes: number,
  budget: BodyBudget,
): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > maxBytes) throw tooLarge(maxBytes);
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of request as AsyncIterable<Buffer>) {
      if (bytes + part.length > maxBytes) throw tooLarge(maxBytes);
      budget.take(part.length);
      bytes += part.length;
      parts.push(part);
    }
  } catch (error) {
    budget.give(bytes);
    if (error instanceof ApiError) throw error;
    throw new ApiError('invalid_json', 'The body ended before it was complete.');
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

const tooLarge = (maxBytes: number) =>
  new ApiError('body_too_large', `The body is larger than ${maxBytes} bytes.`);
