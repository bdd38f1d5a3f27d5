/** Why an answer of a replica cannot be read on. */
export type UpstreamFault =
  | 'refused'
  | 'closed'
  | 'malformed'
  | 'too-large'
  | 'stalled'
  | 'wrong-key';

export interface ResponseHead {
  readonly status: number;
  /** Names in lower case, in their order. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Of the body: null where it comes in chunks. */
  readonly bodyBytes: number | null;
  /** Whether the replica takes another request on this connection. */
  readonly keepsAlive: boolean;
}

/** A part of a body, as it came. */
export interface BodyPart {
  readonly bytes: Buffer;
  /** Where content is in `bytes`: starts and ends in turn. */
  readonly spans: readonly number[];
  /**
   * Where `bytes` has whole chunks of HTTP, framing included, and nothing else: they can be passed
   * on as they are. Empty (`from` is `to`) where it does not.
   */
  readonly from: number;
  readonly to: number;
}

export interface ResponseSink {
  head(head: ResponseHead): void;
  body(part: BodyPart): void;
  /** The answer is whole. `rest`: bytes came behind it. */
  end(rest: boolean): void;
}

/** Thrown at the first byte that is no HTTP/1.1 as it is read here. */
export class MalformedResponse extends Error {
  override readonly name = 'MalformedResponse';
}

const HEAD_BYTES_MAX = 32 * 1024;
const INTERIM_MAX = 8;
const SIZE_DIGITS_MAX = 8;
const LINE_BYTES_MAX = 4096;

const CR = 13;
const LF = 10;

type State =
  | 'head'
  | 'length'
  | 'size'
  | 'extension'
  | 'size-lf'
  | 'data'
  | 'data-cr'
  | 'data-lf'
  | 'trailer'
  | 'done';

/**
 * Reads one answer of HTTP/1.1 off a connection. Strict: what two readers could understand in two
 * ways is refused. Content is not copied.
 */
export class ResponseReader {
  readonly #sink: ResponseSink;
  readonly #isHead: boolean;
  #state: State = 'head';
  #held: Buffer = Buffer.alloc(0);
  #interim = 0;
  /** Of the body, or of the chunk. */
  #leftBytes = 0;
  #digits = 0;
  #lineBytes = 0;

  /** `isHead`: it answers a HEAD, whose answer has no body. */
  constructor(sink: ResponseSink, isHead = false) {
    this.#sink = sink;
    this.#isHead = isHead;
  }

  /** Whether nothing has come yet. */
  get isFresh(): boolean {
    return this.#state === 'head' && this.#held.length === 0 && this.#interim === 0;
  }

  /** Throws MalformedResponse. */
  push(bytes: Buffer): void {
    if (this.#state === 'done') throw new MalformedResponse('bytes behind the answer');
    if (this.#state !== 'head') {
      this.#body(bytes, 0);
      return;
    }
    const all = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    const end = all.indexOf('\r\n\r\n');
    if (end < 0 || end > HEAD_BYTES_MAX) {
      if (end > HEAD_BYTES_MAX || all.length > HEAD_BYTES_MAX) {
        throw new MalformedResponse('its head is too long');
      }
      this.#held = all;
      return;
    }
    this.#held = Buffer.alloc(0);
    const head = readHead(all.toString('latin1', 0, end));
    if (head.status < 200) {
      this.#interim += 1;
      const isKnown = head.status === 100 || head.status === 102 || head.status === 103;
      if (!isKnown || this.#interim > INTERIM_MAX) throw new MalformedResponse('interim answers');
      const rest = all.subarray(end + 4);
      if (rest.length > 0) this.push(rest);
    } else this.#begin(head, all, end + 4);
  }

  #begin(head: ResponseHead, bytes: Buffer, at: number): void {
    const isEmpty = this.#isHead || head.status === 204 || head.status === 304;
    this.#sink.head(isEmpty ? { ...head, bodyBytes: 0 } : head);
    if (isEmpty || head.bodyBytes === 0) {
      this.#finish(bytes, at);
      return;
    }
    this.#state = head.bodyBytes === null ? 'size' : 'length';
    this.#leftBytes = head.bodyBytes ?? 0;
    if (at < bytes.length) this.#body(bytes, at);
  }

  #finish(bytes: Buffer, at: number): void {
    this.#state = 'done';
    this.#sink.end(at < bytes.length);
  }

  #body(bytes: Buffer, start: number): void {
    if (this.#state !== 'length') {
      this.#chunks(bytes, start);
      return;
    }
    const end = Math.min(bytes.length, start + this.#leftBytes);
    this.#leftBytes -= end - start;
    this.#sink.body({ bytes, spans: [start, end], from: 0, to: 0 });
    if (this.#leftBytes === 0) this.#finish(bytes, end);
  }

  #chunks(bytes: Buffer, start: number): void {
    const from = this.#state === 'size' && this.#digits === 0 ? start : -1;
    let to = start;
    const spans: number[] = [];
    let at = start;
    const deliver = () => {
      // Whole chunks only where nothing of another one is behind them.
      const isWhole = from >= 0 && (to === bytes.length || this.#state === 'done');
      if (spans.length > 0) {
        this.#sink.body({ bytes, spans, from: isWhole ? from : 0, to: isWhole ? to : 0 });
      }
    };
    while (at < bytes.length) {
      switch (this.#state) {
        case 'size': {
          const digit = hexDigit(bytes[at]!);
          if (digit >= 0) {
            this.#digits += 1;
            if (this.#digits > SIZE_DIGITS_MAX) throw new MalformedResponse('a chunk is too long');
            this.#leftBytes = this.#leftBytes * 16 + digit;
            at += 1;
            break;
          }
          if (this.#digits === 0) throw new MalformedResponse('a chunk has no length');
          this.#lineBytes = 0;
          this.#state = bytes[at] === CR ? 'size-lf' : 'extension';
          if (this.#state === 'extension' && bytes[at] !== 0x3b) {
            throw new MalformedResponse('a length of a chunk is none');
          }
          at += 1;
          break;
        }
        case 'extension':
          this.#lineBytes += 1;
          if (bytes[at] === LF || this.#lineBytes > LINE_BYTES_MAX) {
            throw new MalformedResponse('an extension of a chunk');
          }
          if (bytes[at] === CR) this.#state = 'size-lf';
          at += 1;
          break;
        case 'size-lf':
          if (bytes[at] !== LF) throw new MalformedResponse('a line without its end');
          this.#digits = 0;
          this.#state = this.#leftBytes === 0 ? 'trailer' : 'data';
          this.#lineBytes = 0;
          at += 1;
          break;
        case 'data': {
          const end = Math.min(bytes.length, at + this.#leftBytes);
          spans.push(at, end);
          this.#leftBytes -= end - at;
          at = end;
          if (this.#leftBytes === 0) this.#state = 'data-cr';
          break;
        }
        case 'data-cr':
          if (bytes[at] !== CR) throw new MalformedResponse('a chunk is longer than it says');
          this.#state = 'data-lf';
          at += 1;
          break;
        case 'data-lf':
          if (bytes[at] !== LF) throw new MalformedResponse('a chunk is longer than it says');
          this.#state = 'size';
          at += 1;
          to = at;
          break;
        case 'trailer': {
          // No trailer is passed on; none is read here but the empty one.
          const expected = this.#lineBytes === 0 ? CR : LF;
          if (bytes[at] !== expected) throw new MalformedResponse('there are trailers');
          this.#lineBytes += 1;
          at += 1;
          if (this.#lineBytes < 2) break;
          this.#state = 'done';
          deliver();
          this.#finish(bytes, at);
          return;
        }
        default:
          throw new MalformedResponse('it is not being read');
      }
    }
    deliver();
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** No control characters but tabs. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
const VALUE = /^[^\x00-\x08\x0a-\x1f\x7f]*$/;

function readHead(text: string): ResponseHead {
  const [first = '', ...lines] = text.split('\r\n');
  const [, version, code] = /^HTTP\/1\.([01]) (\d{3})(?: .*)?$/.exec(first) ?? [];
  if (code === undefined || Number(code) < 100) throw new MalformedResponse('no line of status');
  const headers = lines.map((line): [string, string] => {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(0, colon));
    const value = line.slice(colon + 1).trim();
    if (!NAME.test(name) || !VALUE.test(value)) throw new MalformedResponse('a header is none');
    return [name.toLowerCase(), value];
  });
  const valuesOf = (name: string) => headers.filter(([each]) => each === name).map(([, v]) => v);
  const connection = valuesOf('connection')
    .join(',')
    .toLowerCase()
    .split(/\s*,\s*/);
  return {
    status: Number(code),
    headers,
    bodyBytes: framingOf(Number(code), valuesOf('content-length'), valuesOf('transfer-encoding')),
    keepsAlive: version === '1' && !connection.includes('close'),
  };
}

/** Throws where the body's end could be understood in two ways, or only by the connection's. */
function framingOf(
  status: number,
  lengths: readonly string[],
  encodings: readonly string[],
): number | null {
  if (encodings.length > 0) {
    const isChunked = encodings.length === 1 && encodings[0]!.toLowerCase() === 'chunked';
    if (!isChunked || lengths.length > 0) throw new MalformedResponse('two framings of a body');
    return null;
  }
  if (lengths.length === 0) {
    if (status < 200 || status === 204 || status === 304) return 0;
    throw new MalformedResponse('a body without a length');
  }
  if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0]!)) {
    throw new MalformedResponse('a length of a body is none');
  }
  return Number(lengths[0]);
}
