import { EnvelopeError } from './errors.ts';

export type Bytes = Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

export const utf8 = (text: string): Bytes => encoder.encode(text);

/** Throws EnvelopeError 'malformed'. */
export function textOf(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new EnvelopeError('malformed', 'text that is no UTF-8', { cause });
  }
}

export function concat(...parts: readonly Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

export const u8 = (value: number): Bytes => Uint8Array.of(value);
export const u16 = (value: number): Bytes => Uint8Array.of(value >> 8, value & 0xff);

/** A length as RFC 9000, section 16, writes it; up to 2^30 - 1, which no part here reaches. */
export function varint(value: number): Bytes {
  if (value < 1 << 6) return u8(value);
  if (value < 1 << 14) return u16(value | 0x4000);
  return concat(u16((value >>> 16) | 0x8000), u16(value & 0xffff));
}

/** `varint` and the bytes that it counts. */
export const counted = (bytes: Uint8Array): Bytes => concat(varint(bytes.length), bytes);

/** Reads bytes from front to back. `take` and what rests on it throw EnvelopeError 'truncated'. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get offset(): number {
    return this.#offset;
  }

  get rest(): number {
    return this.#bytes.length - this.#offset;
  }

  take(length: number): Bytes {
    if (length > this.rest) throw new EnvelopeError('truncated', 'bytes are missing at the end');
    const part = this.#bytes.slice(this.#offset, this.#offset + length);
    this.#offset += length;
    return part as Bytes;
  }

  u8(): number {
    return this.take(1)[0]!;
  }

  u16(): number {
    return this.u8() * 256 + this.u8();
  }

  /** Throws EnvelopeError 'too-large' over 2^30. */
  varint(): number {
    const first = this.u8();
    const length = 1 << (first >> 6);
    let value = first & 0x3f;
    for (let i = 1; i < length; i += 1) value = value * 256 + this.u8();
    if (value > 2 ** 30) throw new EnvelopeError('too-large', 'a length over 2^30');
    return value;
  }

  counted(): Bytes {
    return this.take(this.varint());
  }
}
