import { ByteReader, type Bytes } from './bytes.ts';
import { demand } from './errors.ts';

/** What a format's values may be nested in, and how many parts there may be in all. */
export interface NestingBounds {
  readonly depthMax: number;
  readonly itemsMax: number;
}

/** Values within values, one after the other in bytes, as CBOR and MessagePack have them. */
export abstract class NestedReader<T> {
  protected readonly reader: ByteReader;
  protected readonly what: string;
  readonly #bounds: NestingBounds;
  #items = 0;

  constructor(bytes: Bytes, what: string, bounds: NestingBounds) {
    this.reader = new ByteReader(bytes, what);
    this.what = what;
    this.#bounds = bounds;
  }

  /** The one value that the bytes are. Throws AttestError 'trailing-bytes' where more follows. */
  whole(): T {
    const value = this.value(0);
    this.reader.end();
    return value;
  }

  /** The next value. Throws AttestError 'too-large' beyond the bounds. */
  protected value(depth: number): T {
    const { depthMax, itemsMax } = this.#bounds;
    demand(depth <= depthMax, 'too-large', `${this.what} is nested too deeply`);
    demand(++this.#items <= itemsMax, 'too-large', `${this.what} has too many parts`);
    return this.read(depth);
  }

  /** Reads a value from its first byte on; those within it by `value`, one level deeper. */
  protected abstract read(depth: number): T;

  protected list(count: number, depth: number): T[] {
    const list: T[] = [];
    for (let i = 0; i < count; i++) list.push(this.value(depth + 1));
    return list;
  }
}
