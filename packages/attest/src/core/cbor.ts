import { type Bytes, fromUtf8 } from './bytes.ts';
import { demand } from './errors.ts';
import { NestedReader, type NestingBounds } from './nested.ts';

const BOUNDS: NestingBounds = { depthMax: 32, itemsMax: 100_000 };

/** A value with a tag before it. */
export class CborTag {
  readonly tag: number;
  readonly value: Cbor;

  constructor(tag: number, value: Cbor) {
    this.tag = tag;
    this.value = value;
  }
}

export type CborMap = ReadonlyMap<number | string, Cbor>;
export type Cbor = null | boolean | number | string | Bytes | readonly Cbor[] | CborMap | CborTag;

/**
 * Reads one value of CBOR (RFC 8949), to the last byte, strictly: lengths and numbers in their
 * shortest form and definite, integers up to 2^53, keys that are integers or text and not there
 * twice, no floats. Throws AttestError 'malformed', 'trailing-bytes' or 'too-large'.
 */
export function readCbor(bytes: Bytes, what: string): Cbor {
  return new CborReader(bytes, what, BOUNDS).whole();
}

class CborReader extends NestedReader<Cbor> {
  protected override read(depth: number): Cbor {
    const head = this.reader.u8();
    const [major, minor] = [head >> 5, head & 0x1f];
    if (major === 7) return this.#simple(minor);
    const argument = this.#argument(minor);
    switch (major) {
      case 0:
        return argument;
      case 1:
        return -1 - argument;
      case 2:
        return this.reader.bytes(argument);
      case 3:
        return fromUtf8(this.reader.bytes(argument), this.what);
      case 4:
        return this.list(argument, depth);
      case 5:
        return this.#map(argument, depth);
      default:
        return new CborTag(argument, this.value(depth + 1));
    }
  }

  #simple(minor: number): null | boolean {
    const isKnown = minor >= 20 && minor <= 22;
    demand(isKnown, 'malformed', `${this.what} has a float or an unknown value`);
    return minor === 22 ? null : minor === 21;
  }

  #argument(minor: number): number {
    if (minor < 24) return minor;
    demand(minor <= 27, 'malformed', `${this.what} has a length that is not definite`);
    const byteCount = 2 ** (minor - 24);
    const value = this.reader.unsignedBe(byteCount);
    const least = byteCount === 1 ? 24 : 256 ** (byteCount / 2);
    demand(value >= least, 'malformed', `${this.what} has a number that is not the shortest`);
    return value;
  }

  #map(count: number, depth: number): CborMap {
    const map = new Map<number | string, Cbor>();
    for (let i = 0; i < count; i++) {
      const key = this.value(depth + 1);
      const isPlain = typeof key === 'number' || typeof key === 'string';
      demand(isPlain && !map.has(key), 'malformed', `${this.what} has a key twice, or of no kind`);
      map.set(key, this.value(depth + 1));
    }
    return map;
  }
}
