import { ByteReader, type Bytes, concat, counted, textOf, utf8, varint } from './bytes.ts';
import { EnvelopeError } from './errors.ts';

/** Binary HTTP, RFC 9292: how requests and answers look inside their envelopes. */

type Headers = readonly (readonly [name: string, value: string])[];

export interface BinaryRequest {
  readonly method: string;
  readonly authority: string;
  /** With its query. */
  readonly path: string;
  readonly headers: Headers;
  readonly body: Bytes;
}

const KNOWN_LENGTH_REQUEST = 0;
const INDETERMINATE_RESPONSE = 3;
const HEADER_BYTES_MAX = 64 * 1024;
const INFORMATIONAL_MAX = 199;

/** With zeros behind it, which mean nothing, up to the next multiple of `paddedToBytes`. */
export function encodeRequest(request: BinaryRequest, paddedToBytes = 1): Bytes {
  const { method, authority, path, headers, body } = request;
  const control = ['https', authority, path].map((text) => counted(utf8(text)));
  const message = concat(
    varint(KNOWN_LENGTH_REQUEST),
    counted(utf8(method)),
    ...control,
    counted(fieldLines(headers)),
    counted(body),
    // No trailers.
    varint(0),
  );
  const padded = Math.ceil(message.length / paddedToBytes) * paddedToBytes;
  return concat(message, new Uint8Array(padded - message.length));
}

/** Throws EnvelopeError. */
export function readRequest(bytes: Uint8Array): BinaryRequest {
  const reader = new ByteReader(bytes);
  if (reader.varint() !== KNOWN_LENGTH_REQUEST) {
    throw new EnvelopeError('malformed', 'it is no request of known length');
  }
  const [method, , authority, path] = [0, 1, 2, 3].map(() => textOf(reader.counted()));
  const headers = readFieldLines(reader.counted());
  // Where a message ends early, what is missing is empty: RFC 9292, section 3.8.
  const body = reader.rest === 0 ? new Uint8Array() : reader.counted();
  const trailers = reader.rest === 0 ? [] : readFieldLines(reader.counted());
  if (trailers.length > 0) throw new EnvelopeError('malformed', 'trailers are not read here');
  if (reader.take(reader.rest).some((byte) => byte !== 0)) {
    throw new EnvelopeError('malformed', 'what follows the request is no padding');
  }
  return { method: method!, authority: authority!, path: path!, headers, body };
}

function fieldLines(headers: Headers): Bytes {
  return concat(
    ...headers.flatMap(([name, value]) => [
      counted(utf8(name.toLowerCase())),
      counted(utf8(value)),
    ]),
  );
}

function readFieldLines(bytes: Uint8Array): [string, string][] {
  if (bytes.length > HEADER_BYTES_MAX) throw headersTooLarge();
  const reader = new ByteReader(bytes);
  const lines: [string, string][] = [];
  while (reader.rest > 0) lines.push([textOf(reader.counted()), textOf(reader.counted())]);
  return lines;
}

const headersTooLarge = () => new EnvelopeError('too-large', `headers over ${HEADER_BYTES_MAX}`);

/** What an answer of unknown length begins with. */
export function encodeResponseHead(status: number, headers: Headers): Bytes {
  return concat(varint(INDETERMINATE_RESPONSE), varint(status), fieldLines(headers), varint(0));
}

/** A part of the answer's content; of no bytes: nothing, as that would end it. */
export const encodeContent = (bytes: Uint8Array): Bytes =>
  bytes.length === 0 ? new Uint8Array() : counted(bytes);

/** What ends the content, and trailers of which there are none. */
export const RESPONSE_END: Bytes = Uint8Array.of(0, 0);

export interface ResponseHead {
  readonly status: number;
  readonly headers: [name: string, value: string][];
}

/** Reads an answer of unknown length as it comes. Keeps no content. */
export class ResponseReader {
  #kept: Bytes = new Uint8Array();
  #state: 'head' | 'content' | 'trailers' | 'padding' = 'head';
  /** Of a part of the content. */
  #missingBytes = 0;
  #head: ResponseHead | undefined;

  /** undefined: it has not come yet. */
  get head(): ResponseHead | undefined {
    return this.#head;
  }

  /** What of the content came with these bytes. Throws EnvelopeError. */
  push(bytes: Uint8Array): Bytes {
    const all = concat(this.#kept, bytes);
    const reader = new ByteReader(all);
    const content: Bytes[] = [];
    let whole = 0;
    try {
      for (; reader.rest > 0; whole = reader.offset) this.#step(reader, content);
    } catch (error) {
      // Something that is not content, and of which more must come first.
      if (!(error instanceof EnvelopeError) || error.code !== 'truncated') throw error;
    }
    this.#kept = all.slice(whole);
    if (this.#kept.length > HEADER_BYTES_MAX) throw headersTooLarge();
    return concat(...content);
  }

  /** Throws EnvelopeError 'truncated' where it has not come to its end. */
  end(): void {
    if (this.#state !== 'padding') throw new EnvelopeError('truncated', 'the answer breaks off');
  }

  #step(reader: ByteReader, content: Bytes[]): void {
    if (this.#missingBytes > 0) {
      const part = reader.take(Math.min(this.#missingBytes, reader.rest));
      this.#missingBytes -= part.length;
      content.push(part);
    } else if (this.#state === 'head') {
      this.#head = readHead(reader);
      this.#state = 'content';
    } else if (this.#state === 'content') {
      this.#missingBytes = reader.varint();
      if (this.#missingBytes === 0) this.#state = 'trailers';
    } else if (this.#state === 'trailers') {
      readLinesToEnd(reader);
      this.#state = 'padding';
    } else if (reader.take(reader.rest).some((byte) => byte !== 0)) {
      throw new EnvelopeError('malformed', 'what follows the answer is no padding');
    }
  }
}

function readHead(reader: ByteReader): ResponseHead {
  if (reader.varint() !== INDETERMINATE_RESPONSE) {
    throw new EnvelopeError('malformed', 'it is no answer of unknown length');
  }
  for (;;) {
    const status = reader.varint();
    const headers = readLinesToEnd(reader);
    if (status > INFORMATIONAL_MAX) return { status, headers };
  }
}

/** Lines up to a name of no bytes. */
function readLinesToEnd(reader: ByteReader): [string, string][] {
  const lines: [string, string][] = [];
  for (;;) {
    const name = textOf(reader.counted());
    if (name === '') return lines;
    lines.push([name, textOf(reader.counted())]);
  }
}
