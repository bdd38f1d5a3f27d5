import { type Bytes, concatBytes, utf8 } from './bytes.ts';
import { TAG } from './der.ts';
import { invariant } from './invariant.ts';

/** One DER element of that tag around the bytes of its content. */
export function der(tag: number, ...content: readonly Uint8Array[]): Bytes {
  const body = concatBytes(...content);
  const { length } = body;
  invariant(length <= 0xff_ff_ff, 'DER elements are written up to 16 MiB');
  const lengths: number[] = [];
  for (let left = length; left > 0; left = Math.floor(left / 256)) lengths.unshift(left % 256);
  const header = length < 0x80 ? [tag, length] : [tag, 0x80 + lengths.length, ...lengths];
  return concatBytes(Uint8Array.from(header), body);
}

/** An object identifier's element, from dotted decimals. */
export function derOid(oid: string): Bytes {
  const [first, second, ...rest] = oid.split('.').map(Number);
  const content = [first! * 40 + second!, ...rest].flatMap((arc) => {
    const bytes = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) {
      bytes.unshift((left % 128) + 0x80);
    }
    return bytes;
  });
  return der(TAG.oid, Uint8Array.from(content));
}

export function derSequence(...elements: readonly Uint8Array[]): Bytes {
  return der(TAG.sequence, ...elements);
}

/** An integer from its bytes, most significant first, taken as not negative. */
export function derUnsigned(bytes: Uint8Array): Bytes {
  const start = bytes.findIndex((byte) => byte !== 0);
  const digits = start < 0 ? Uint8Array.of(0) : bytes.subarray(start);
  return der(TAG.integer, Uint8Array.of(...(digits[0]! >= 0x80 ? [0] : [])), digits);
}

export function derBoolean(value: boolean): Bytes {
  return der(TAG.boolean, Uint8Array.of(value ? 0xff : 0));
}

export function derOctets(bytes: Uint8Array): Bytes {
  return der(TAG.octetString, bytes);
}

/** A bit string of whole bytes. */
export function derBits(bytes: Uint8Array): Bytes {
  return der(TAG.bitString, Uint8Array.of(0), bytes);
}

export function derText(text: string): Bytes {
  return der(TAG.utf8String, utf8(text));
}

/** A GeneralizedTime of whole seconds, from `YYYYMMDDhhmmss`. */
export function derTime(digits: string): Bytes {
  return der(TAG.generalizedTime, utf8(`${digits}Z`));
}

/** An ECDSA signature (r and s joined, as WebCrypto gives it) in X.509's form. */
export function derEcdsaSignature(raw: Uint8Array): Bytes {
  const half = raw.length / 2;
  return derSequence(derUnsigned(raw.subarray(0, half)), derUnsigned(raw.subarray(half)));
}
