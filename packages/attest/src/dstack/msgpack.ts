import { type Bytes, fromUtf8 } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { NestedReader, type NestingBounds } from '../core/nested.ts';

const BOUNDS: NestingBounds = { depthMax: 12, itemsMax: 200_000 };

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
  return new PackedReader(bytes, what, BOUNDS).whole();
}

class PackedReader extends NestedReader<Packed> {
  protected override read(depth: number): Packed {
    const head = this.reader.u8();
    if (head < 0x80) return head;
    if (head < 0x90) return this.#map(head & 0x0f, depth);
    if (head < 0xa0) return this.list(head & 0x0f, depth);
    if (head < 0xc0) return this.#text(head & 0x1f);
    if (head >= 0xe0) return head - 0x100;
    return this.#typed(head, depth);
  }

  #typed(head: number, depth: number): Packed {
    if (head === 0xc0) return null;
    if (head === 0xc2 || head === 0xc3) return head === 0xc3;
    if (head >= 0xc4 && head <= 0xc6)
      return this.reader.bytes(this.reader.unsignedBe(2 ** (head - 0xc4)));
    if (head >= 0xcc && head <= 0xcf) return this.reader.unsignedBe(2 ** (head - 0xcc));
    if (head >= 0xd9 && head <= 0xdb) return this.#text(this.reader.unsignedBe(2 ** (head - 0xd9)));
    if (head === 0xdc || head === 0xdd)
      return this.list(this.reader.unsignedBe(2 * (head - 0xdb)), depth);
    const isMap = head === 0xde || head === 0xdf;
    demand(isMap, 'malformed', `${this.what} has a value of type ${head.toString(16)}`);
    return this.#map(this.reader.unsignedBe(2 * (head - 0xdd)), depth);
  }

  #map(count: number, depth: number): { [key: string]: Packed } {
    const entries = new Map<string, Packed>();
    for (let i = 0; i < count; i++) {
      const key = this.value(depth + 1);
      const isNew = typeof key === 'string' && !entries.has(key);
      demand(isNew, 'malformed', `${this.what} has a key that is no text, or there twice`);
      entries.set(key, this.value(depth + 1));
    }
    return Object.fromEntries(entries);
  }

  #text(length: number): string {
    return fromUtf8(this.reader.bytes(length), this.what);
  }
}
