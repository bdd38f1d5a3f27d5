import { AttestError, demand } from './errors.ts';

/** Bytes over an ArrayBuffer of their own kind: what WebCrypto takes. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Reads fields one after the other; whatever does not fit or is left over is an error. */
export class ByteReader {
  readonly #bytes: Bytes;
  readonly #what: string;
  #offset = 0;

  /** `what` names the structure in messages. */
  constructor(bytes: Bytes, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get offset(): number {
    return this.#offset;
  }

  get left(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  u16le(): number {
    return this.#number(2);
  }

  u24le(): number {
    return this.#number(3);
  }

  u32le(): number {
    return this.#number(4);
  }

  u16be(): number {
    return this.unsignedBe(2);
  }

  u32be(): number {
    return this.unsignedBe(4);
  }

  /** A number of as many bytes, up to 2^53. */
  unsignedBe(byteCount: number): number {
    const value = this.bytes(byteCount).reduce((sum, byte) => sum * 256 + byte, 0);
    demand(Number.isSafeInteger(value), 'malformed', `${this.#what} has too large a number`);
    return value;
  }

  u64le(): bigint {
    const low = this.u32le();
    return BigInt(this.u32le()) * 0x1_0000_0000n + BigInt(low);
  }

  /** A view, not a copy. */
  bytes(count: number): Bytes {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** To be called at the end of every structure. */
  end(): void {
    if (this.left === 0) return;
    throw new AttestError('trailing-bytes', `${this.#what} is followed by ${this.left} bytes`);
  }

  #number(count: number): number {
    const at = this.#take(count);
    let value = 0;
    for (let i = count - 1; i >= 0; i--) value = value * 256 + this.#bytes[at + i]!;
    return value;
  }

  #take(count: number): number {
    const at = this.#offset;
    if (!Number.isSafeInteger(count) || count < 0 || count > this.left) {
      const end = `ends at byte ${this.#bytes.length}, ${count} bytes were to follow byte ${at}`;
      throw new AttestError('malformed', `${this.#what} ${end}`);
    }
    this.#offset += count;
    return at;
  }
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function concatBytes(...parts: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function toHex(bytes: Uint8Array): string {
  let hex = '';
  for (const byte of bytes) hex += byte.toString(16).padStart(2, '0');
  return hex;
}

/** Strict: an even number of hexadecimal digits and nothing else. */
export function fromHex(text: string, what: string): Bytes {
  demand(
    text.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(text),
    'malformed',
    `${what} is not hexadecimal`,
  );
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** Strict: standard alphabet, padding where it belongs, no white space, no stray last bits. */
export function fromBase64(text: string, what: string): Bytes {
  const isBase64 = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
  demand(isBase64, 'malformed', `${what} is not base64`);
  const decoded = atob(text);
  const bytes = new Uint8Array(decoded.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = decoded.charCodeAt(i);
  // Only the last group can have bits that stand for nothing.
  const tail = toBase64(bytes.subarray(bytes.length - ((bytes.length - 1) % 3) - 1));
  const isExact = text.endsWith(bytes.length === 0 ? '' : tail);
  demand(isExact, 'malformed', `${what} is base64 with stray bits at its end`);
  return bytes;
}

export function utf8(text: string): Bytes {
  return new TextEncoder().encode(text);
}

/** Strict: throws 'malformed' for bytes that are not UTF-8. */
export function fromUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new AttestError('malformed', `${what} is not UTF-8`, { cause });
  }
}
