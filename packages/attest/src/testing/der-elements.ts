import { type Bytes, utf8 } from '../core/bytes.ts';
import { TAG } from '../core/der.ts';
import { der, derSequence } from '../core/der-writer.ts';

// Elements that only certificates and answers made for tests consist of.

/** An integer from its bytes, most significant first, taken as not negative. */
export function derUnsigned(bytes: Uint8Array): Bytes {
  const start = bytes.findIndex((byte) => byte !== 0);
  const digits = start < 0 ? Uint8Array.of(0) : bytes.subarray(start);
  return der(TAG.integer, Uint8Array.of(...(digits[0]! >= 0x80 ? [0] : [])), digits);
}

export function derBoolean(value: boolean): Bytes {
  return der(TAG.boolean, Uint8Array.of(value ? 0xff : 0));
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
