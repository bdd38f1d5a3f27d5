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
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    const fail = (error: ApiError) => {
      request.removeAllListeners('data');
      request.resume();
      budget.give(bytes);
      bytes = 0;
      reject(error);
    };
    request.on('data', (part: Buffer) => {
      if (bytes + part.length > maxBytes) return fail(tooLarge(maxBytes));
      try {
        budget.take(part.length);
      } catch (error) {
        return fail(error as ApiError);
      }
      bytes += part.length;
      parts.push(part);
      return undefined;
    });
    request.once('end', () => resolve(parts.length === 1 ? parts[0]! : Buffer.concat(parts)));
    request.once('close', () => {
      if (!request.complete) fail(new ApiError('invalid_json', 'The body ended early.'));
    });
  });
}

const tooLarge = (maxBytes: number) =>
  new ApiError('body_too_large', `The body is larger than ${maxBytes} bytes.`);
