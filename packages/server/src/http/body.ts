import type { Context } from 'hono';
import { ApiError } from './errors.ts';

/**
 * Reads a JSON body of at most `maxBytes`. Throws ApiError `body_too_large` before it has read more
 * than that, and `invalid_json` where the text is not JSON.
 */
export async function readJson(c: Context, maxBytes: number): Promise<unknown> {
  return parseJson(await readBody(c, maxBytes));
}

/** Reads a body as it came, of at most `maxBytes`. Throws ApiError `body_too_large` as above. */
export async function readBody(c: Context, maxBytes: number): Promise<Uint8Array> {
  const declared = c.req.header('content-length');
  if (declared === undefined) return readChunked(c, maxBytes);
  if (Number(declared) > maxBytes) throw tooLarge(maxBytes);
  return new Uint8Array(await c.req.arrayBuffer().catch(aborted));
}

/** The text of a body: whatever reads it reads the same. */
export function decodeBody(body: Uint8Array): string {
  return new TextDecoder().decode(body);
}

/** Throws ApiError `invalid_json`. */
export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(decodeBody(body));
  } catch {
    // The parser's own message quotes the body, which may be prompt text.
    throw new ApiError('invalid_json', 'The body is not valid JSON.');
  }
}

async function readChunked(c: Context, maxBytes: number): Promise<Uint8Array> {
  if (c.req.raw.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const reader = c.req.raw.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch(aborted);
    if (done) return Buffer.concat(chunks);
    bytes += value.byteLength;
    if (bytes > maxBytes) {
      await reader.cancel();
      throw tooLarge(maxBytes);
    }
    chunks.push(value);
  }
}

const tooLarge = (maxBytes: number) =>
  new ApiError('body_too_large', `The body is larger than ${maxBytes} bytes.`);

function aborted(): never {
  throw new ApiError('invalid_json', 'The body ended before it was complete.');
}
