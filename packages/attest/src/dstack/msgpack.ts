import { type Bytes, fromUtf8 } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';

const DEPTH_MAX = 12;
const ITEMS_MAX = 200_000;

/** What MessagePack holds here: maps have text for keys, bytes are bytes. */
export type Packed =
  | null
  | boolean
  | number
  | string
  | Bytes
  | readonly Packed[]
  | { readonly [key: string]: Packed };

/**
 * Reads one value of MessagePack, to the last byte; integers up to 2^53, no floats and no
 * extensions. Throws AttestError 'malformed', 'trailing-bytes' or 'too-large'.
 */
export function readMsgpack(bytes: Bytes, what: string): Packed {
  const reader = new PackedReader(bytes, what);
  const value = reader.value(0);
  demand(reader.left === 0, 'trailing-bytes', `${what} is followed by ${reader.left} bytes`);
  return value;
}

class PackedReader {
  readonly #bytes: Bytes;
  readonly #what: string;
  #offset = 0;
  #items = 0;

  constructor(bytes: Bytes, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  value(depth: number): Packed {
    demand(depth <= DEPTH_MAX, 'too-large', `${this.#what} is nested too deeply`);
    demand(++this.#items <= ITEMS_MAX, 'too-large', `${this.#what} has too many parts`);
    const head = this.#unsigned(1);
    if (head < 0x80) return head;
    if (head < 0x90) return this.#map(head & 0x0f, depth);
    if (head < 0xa0) return this.#list(head & 0x0f, depth);
    if (head < 0xc0) return this.#text(head & 0x1f);
    if (head >= 0xe0) return head - 0x100;
    return this.#typed(head, depth);
  }

  #typed(head: number, depth: number): Packed {
    if (head === 0xc0) return null;
    if (head === 0xc2 || head === 0xc3) return head === 0xc3;
    if (head >= 0xc4 && head <= 0xc6) return this.#take(this.#unsigned(2 ** (head - 0xc4)));
    if (head >= 0xcc && head <= 0xcf) return this.#unsigned(2 ** (head - 0xcc));
    if (head >= 0xd9 && head <= 0xdb) return this.#text(this.#unsigned(2 ** (head - 0xd9)));
    if (head === 0xdc || head === 0xdd) return this.#list(this.#unsigned(2 * (head - 0xdb)), depth);
    const isMap = head === 0xde || head === 0xdf;
    demand(isMap, 'malformed', `${this.#what} has a value of type ${head.toString(16)}`);
    return this.#map(this.#unsigned(2 * (head - 0xdd)), depth);
  }

  #list(count: number, depth: number): Packed[] {
    const list: Packed[] = [];
    for (let i = 0; i < count; i++) list.push(this.value(depth + 1));
    return list;
  }

  #map(count: number, depth: number): { [key: string]: Packed } {
    const entries = new Map<string, Packed>();
    for (let i = 0; i < count; i++) {
      const key = this.value(depth + 1);
      const isNew = typeof key === 'string' && !entries.has(key);
      demand(isNew, 'malformed', `${this.#what} has a key that is no text, or there twice`);
      entries.set(key, this.value(depth + 1));
    }
    return Object.fromEntries(entries);
  }

  #text(length: number): string {
    return fromUtf8(this.#take(length), this.#what);
  }

  #unsigned(byteCount: number): number {
    const value = this.#take(byteCount).reduce((sum, byte) => sum * 256 + byte, 0);
    demand(Number.isSafeInteger(value), 'malformed', `${this.#what} has too large a number`);
    return value;
  }

  #take(count: number): Bytes {
    demand(count <= this.left, 'malformed', `${this.#what} is cut short`);
    const start = this.#offset;
    this.#offset += count;
    return this.#bytes.subarray(start, this.#offset);
  }
}
