import type { Context } from 'hono';
import { ApiError } from './errors.ts';
import { checkJsonBounds, type JsonBounds } from './json-bounds.ts';

/** What takes longer to parse and check than a millisecond. */
const LARGE_BYTES = 2 ** 16;

/** A few milliseconds' work. */
const DECODED_AT_ONCE_BYTES = 2 ** 20;

export interface JsonBody {
  /** As it came. */
  readonly received: Uint8Array;
  readonly value: unknown;
}

/** Reads the JSON bodies of requests. */
export class JsonBodies {
  readonly #maxBytes: number;
  #lastTurn: Promise<void> = Promise.resolve();

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Throws ApiError `unsupported_media_type`, `body_too_large` before it has read more than the
   * most, `invalid_value` for what is over `bounds`, and `invalid_json` where the text is not JSON.
   */
  async read(c: Context, bounds: JsonBounds): Promise<JsonBody> {
    checkMediaType(c);
    const received = await readBody(c, this.#maxBytes);
    await this.turnFor(received);
    checkJsonBounds(received, bounds);
    const text = await this.#decode(received);
    await this.turnFor(received);
    return { received, value: parseJson(text) };
  }

  /** Some of it in each turn: text that is not ASCII takes ten times as long as other text. */
  async #decode(body: Uint8Array): Promise<string> {
    if (body.byteLength <= DECODED_AT_ONCE_BYTES) return decodeBody(body);
    const decoder = new TextDecoder();
    let text = '';
    for (let at = 0; at < body.byteLength; at += DECODED_AT_ONCE_BYTES) {
      await this.turnFor(body);
      text += decoder.decode(body.subarray(at, at + DECODED_AT_ONCE_BYTES), { stream: true });
    }
    return text + decoder.decode();
  }

  /** A body around another one, of `moreBytes` more. Throws ApiError `body_too_large`. */
  readWrapped(c: Context, moreBytes: number): Promise<Uint8Array> {
    return readBody(c, this.#maxBytes + moreBytes);
  }

  /**
   * Before work on a body that takes longer the longer it is. A large one has a turn of the event
   * loop alone: of many that arrive together, other clients wait for one at a time.
   */
  async turnFor(body: Uint8Array): Promise<void> {
    if (body.byteLength <= LARGE_BYTES) return;
    this.#lastTurn = this.#lastTurn.then(() => new Promise((resume) => setImmediate(resume)));
    await this.#lastTurn;
  }
}

/**
 * A page of another origin can send what looks like a form without asking first; it cannot send
 * what says that it is JSON.
 */
function checkMediaType(c: Context): void {
  const type = c.req.header('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') {
    const message = 'The body must be JSON: send "Content-Type: application/json".';
    throw new ApiError('unsupported_media_type', message);
  }
  const encoding = c.req.header('content-encoding')?.trim().toLowerCase() ?? 'identity';
  if (encoding !== 'identity') {
    const message = 'The body is compressed, which is not read here: send it without.';
    throw new ApiError('unsupported_media_type', message);
  }
}

/** Reads a body as it came, of at most `maxBytes`. */
async function readBody(c: Context, maxBytes: number): Promise<Uint8Array> {
  const declared = c.req.header('content-length');
  if (declared === undefined) return readChunked(c, maxBytes);
  if (Number(declared) > maxBytes) throw tooLarge(maxBytes);
  return new Uint8Array(await c.req.arrayBuffer().catch(aborted));
}

/** The text of a body: whatever reads it reads the same. */
export function decodeBody(body: Uint8Array): string {
  return new TextDecoder().decode(body);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
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
