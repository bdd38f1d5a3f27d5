import type { Bytes } from './bytes.ts';
import { AttestError, demand } from './errors.ts';

/** Tags of ASN.1 types, in the form that DER writes them. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The tag of a context-specific field: `[number]`, constructed (explicit or a sequence) or not. */
export function contextTag(number: number, isConstructed: boolean): number {
  return (isConstructed ? 0xa0 : 0x80) + number;
}

/** One DER element; views into the bytes that were read. */
export interface DerElement {
  readonly tag: number;
  readonly content: Bytes;
  /** With its tag and length: what digests and signatures are over. */
  readonly whole: Bytes;
}

const LENGTH_BYTES_MAX = 3;

/**
 * Reads DER elements one after the other, strictly: tags of one byte, lengths definite and minimal,
 * nothing beyond the end. Throws AttestError 'malformed' or, from `end`, 'trailing-bytes'.
 */
export class DerReader {
  readonly #bytes: Bytes;
  readonly #what: string;
  #offset = 0;

  /** `what` names the structure in messages. */
  constructor(bytes: Bytes, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  /** The next element's tag, or null at the end. */
  peek(): number | null {
    return this.#bytes[this.#offset] ?? null;
  }

  next(): DerElement {
    const start = this.#offset;
    const tag = this.#byte();
    if ((tag & 0x1f) === 0x1f) throw this.#malformed('has a tag of several bytes');
    const length = this.#length();
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw this.#malformed('is cut short');
    const content = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return { tag, content, whole: this.#bytes.subarray(start, end) };
  }

  /** The next element, which must have that tag. */
  expect(tag: number): DerElement {
    const element = this.next();
    if (element.tag !== tag) {
      throw this.#malformed(`has tag ${element.tag.toString(16)} for ${tag.toString(16)}`);
    }
    return element;
  }

  /** The next element if it has that tag, else null. */
  optional(tag: number): DerElement | null {
    return this.peek() === tag ? this.next() : null;
  }

  /** A reader of the next element's content; the element must have that tag. */
  enter(tag: number): DerReader {
    return new DerReader(this.expect(tag).content, this.#what);
  }

  /** To be called at the end of every structure. */
  end(): void {
    const left = this.#bytes.length - this.#offset;
    if (left === 0) return;
    throw new AttestError('trailing-bytes', `${this.#what} is followed by ${left} bytes`);
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) throw this.#malformed('is cut short');
    this.#offset++;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const count = first - 0x80;
    if (count < 1 || count > LENGTH_BYTES_MAX) {
      throw this.#malformed(`has a length of ${count} bytes`);
    }
    let length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + this.#byte();
    const least = count === 1 ? 0x80 : 256 ** (count - 1);
    if (length < least) throw this.#malformed('has a length that is not DER');
    return length;
  }

  /** Messages are made for errors alone: elements are read by the hundred. */
  #malformed(problem: string): AttestError {
    return new AttestError('malformed', `${this.#what} ${problem}`);
  }
}

/** The one element that `bytes` consist of, as a reader of its content. */
export function enterDer(bytes: Bytes, tag: number, what: string): DerReader {
  const reader = new DerReader(bytes, what);
  const inner = reader.enter(tag);
  reader.end();
  return inner;
}

/** An object identifier's content as dotted decimals. */
export function readOid(content: Bytes, what: string): string {
  const arcs: number[] = [];
  let arc = 0;
  let isInside = false;
  for (const byte of content) {
    demand(isInside || byte !== 0x80, 'malformed', `${what} has an identifier that is not DER`);
    arc = arc * 128 + (byte & 0x7f);
    demand(arc <= 0xffff_ffff, 'malformed', `${what} has an identifier that is too large`);
    isInside = byte >= 0x80;
    if (isInside) continue;
    if (arcs.length > 0) arcs.push(arc);
    else arcs.push(Math.min(Math.floor(arc / 40), 2), arc - 40 * Math.min(Math.floor(arc / 40), 2));
    arc = 0;
  }
  demand(arcs.length > 0 && !isInside, 'malformed', `${what} has an identifier that is cut short`);
  return arcs.join('.');
}

/** An integer's content, which must be minimal and not negative, without its sign byte. */
export function readUnsigned(content: Bytes, what: string): Bytes {
  const [first, second] = content;
  demand(first !== undefined && first < 0x80, 'malformed', `${what} has a negative integer`);
  const isPadded = first === 0 && content.length > 1;
  const isMinimal = !isPadded || second! >= 0x80;
  demand(isMinimal, 'malformed', `${what} has an integer that is not minimal`);
  return isPadded ? content.subarray(1) : content;
}

/** A small integer of at most 4 bytes. */
export function readSmallUnsigned(content: Bytes, what: string): number {
  const bytes = readUnsigned(content, what);
  demand(bytes.length <= 4, 'malformed', `${what} has an integer that is too large`);
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

/** DER's booleans are 0 and 255 alone. */
export function readBoolean(content: Bytes, what: string): boolean {
  const isBoolean = content.length === 1 && (content[0] === 0 || content[0] === 0xff);
  demand(isBoolean, 'malformed', `${what} has a boolean that is not DER`);
  return content[0] === 0xff;
}

/** A bit string of whole bytes. */
export function readBitString(content: Bytes, what: string): Bytes {
  demand(content[0] === 0, 'malformed', `${what} has a bit string of broken bytes`);
  return content.subarray(1);
}

/** A UTCTime or GeneralizedTime (seconds, Z), in ms since 1970. */
export function readTime(element: DerElement, what: string): number {
  const text = String.fromCharCode(...element.content);
  const isUtc = element.tag === TAG.utcTime;
  const isTime = isUtc || element.tag === TAG.generalizedTime;
  const digits = isUtc ? 12 : 14;
  const isWhole = isTime && text.length === digits + 1 && /^\d+Z$/.test(text);
  demand(isWhole, 'malformed', `${what} has a time that is not DER`);
  const full = isUtc ? (text < '5' ? '20' : '19') + text : text;
  const [, year, ...rest] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(full)!;
  const [month, day, hour, minute, second] = rest.map(Number) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const isInRange = month >= 1 && month <= 12 && day >= 1 && day <= 31;
  const isClock = hour < 24 && minute < 60 && second < 60;
  demand(isInRange && isClock, 'malformed', `${what} has the time ${text}`);
  return Date.UTC(Number(year), month - 1, day, hour, minute, second);
}
