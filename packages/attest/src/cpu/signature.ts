import type { webcrypto } from 'node:crypto';
import type { Bytes } from '../core/bytes.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import { AttestError, demand } from '../core/errors.ts';
import { type Curve, curveOf, importPoint, importSpki, verifyEcdsa } from '../core/signature.ts';

const HASH_OF = { 'P-256': 'SHA-256', 'P-384': 'SHA-384' } as const;

/** A certificate's key; throws AttestError 'unsupported-algorithm' for one of another kind. */
export function keyOf(certificate: Certificate, curve: Curve): Promise<webcrypto.CryptoKey> {
  const name = nameOf(certificate);
  const found = curveOf(certificate.spki, name);
  demand(found === curve, 'unsupported-algorithm', `${name} has a key on ${found}, not ${curve}`);
  return orRefusal(
    importSpki(certificate.spki, { kind: 'ecdsa', hash: HASH_OF[curve] }),
    `the key of ${name} is none of ${curve}`,
  );
}

/** A key that evidence gives as a point; throws AttestError 'malformed' for one off its curve. */
export function pointKey(curve: Curve, point: Bytes, what: string): Promise<webcrypto.CryptoKey> {
  return orRefusal(importPoint(curve, point), `${what} is no point of ${curve}`);
}

/** Throws AttestError 'signature-invalid' unless `signature` (raw) over `message` is by `key`. */
export async function demandSignature(
  key: webcrypto.CryptoKey,
  curve: Curve,
  signature: Bytes,
  message: Bytes,
  what: string,
): Promise<void> {
  const isGood = await verifyEcdsa(key, curve, HASH_OF[curve], signature, message);
  demand(isGood, 'signature-invalid', `the signature over ${what} does not hold`);
}

async function orRefusal<T>(imported: Promise<T>, message: string): Promise<T> {
  try {
    return await imported;
  } catch (cause) {
    throw new AttestError('malformed', message, { cause });
  }
}
