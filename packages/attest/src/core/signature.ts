import type { webcrypto } from 'node:crypto';
import type { Bytes } from './bytes.ts';
import { concatBytes } from './bytes.ts';
import { DerReader, enterDer, readOid, readSmallUnsigned, readUnsigned, TAG } from './der.ts';
import type { DigestName } from './digest.ts';
import { AttestError, demand } from './errors.ts';

/** The curves that attestation keys lie on, each with its coordinates' bytes. */
const CURVES = { 'P-256': 32, 'P-384': 48 } as const;
export type Curve = keyof typeof CURVES;

/** How something is signed, as X.509, OCSP answers and revocation lists name it. */
export type SignatureAlgorithm =
  | { readonly kind: 'ecdsa'; readonly hash: DigestName }
  | { readonly kind: 'rsa-pkcs1'; readonly hash: DigestName }
  | { readonly kind: 'rsa-pss'; readonly hash: DigestName; readonly saltBytes: number };

/** Something signed in X.509's way: certificates, OCSP answers, revocation lists. */
export interface Signed {
  /** The bytes that the signature is over. */
  readonly signedBytes: Bytes;
  readonly algorithm: SignatureAlgorithm;
  readonly signature: Bytes;
}

const CURVE_OIDS: Readonly<Record<string, Curve>> = {
  '1.2.840.10045.3.1.7': 'P-256',
  '1.3.132.0.34': 'P-384',
};
const HASH_OIDS: Readonly<Record<string, DigestName>> = {
  '2.16.840.1.101.3.4.2.1': 'SHA-256',
  '2.16.840.1.101.3.4.2.2': 'SHA-384',
  '2.16.840.1.101.3.4.2.3': 'SHA-512',
};
const ECDSA_OIDS: Readonly<Record<string, DigestName>> = {
  '1.2.840.10045.4.3.2': 'SHA-256',
  '1.2.840.10045.4.3.3': 'SHA-384',
  '1.2.840.10045.4.3.4': 'SHA-512',
};
const RSA_OIDS: Readonly<Record<string, DigestName>> = {
  '1.2.840.113549.1.1.11': 'SHA-256',
  '1.2.840.113549.1.1.12': 'SHA-384',
  '1.2.840.113549.1.1.13': 'SHA-512',
};
const RSA_PSS_OID = '1.2.840.113549.1.1.10';
const MGF1_OID = '1.2.840.113549.1.1.8';
const EC_KEY_OID = '1.2.840.10045.2.1';

/**
 * Whether `signature` (raw r and s, each as long as a coordinate) over `message` is by `publicKey`
 * (a CryptoKey for ECDSA on `curve`). False for a signature of another length.
 */
export async function verifyEcdsa(
  publicKey: webcrypto.CryptoKey,
  curve: Curve,
  hash: DigestName,
  signature: Bytes,
  message: Bytes,
): Promise<boolean> {
  if (signature.length !== 2 * CURVES[curve]) return false;
  return crypto.subtle.verify({ name: 'ECDSA', hash }, publicKey, signature, message);
}

/** An uncompressed point (x and y) as a key; throws DOMException for a point off the curve. */
export async function importPoint(curve: Curve, point: Bytes): Promise<webcrypto.CryptoKey> {
  const raw = new Uint8Array(1 + point.length);
  raw[0] = 4;
  raw.set(point, 1);
  return crypto.subtle.importKey('raw', raw, { name: 'ECDSA', namedCurve: curve }, true, [
    'verify',
  ]);
}

/** A SubjectPublicKeyInfo's curve; throws 'unsupported-algorithm' for any key but these curves'. */
export function curveOf(spki: Bytes, what: string): Curve {
  const algorithm = enterDer(spki, TAG.sequence, what).enter(TAG.sequence);
  const kind = readOid(algorithm.expect(TAG.oid).content, what);
  demand(kind === EC_KEY_OID, 'unsupported-algorithm', `${what} has a key of kind ${kind}`);
  const name = readOid(algorithm.expect(TAG.oid).content, what);
  algorithm.end();
  const curve = CURVE_OIDS[name];
  if (curve === undefined) {
    throw new AttestError('unsupported-algorithm', `${what} has a key on curve ${name}`);
  }
  return curve;
}

/** An AlgorithmIdentifier (its content). Throws 'unsupported-algorithm' for what is not known. */
export function readSignatureAlgorithm(content: Bytes, what: string): SignatureAlgorithm {
  const reader = new DerReader(content, what);
  const oid = readOid(reader.expect(TAG.oid).content, what);
  const ecdsa = ECDSA_OIDS[oid];
  if (ecdsa !== undefined) {
    reader.end();
    return { kind: 'ecdsa', hash: ecdsa };
  }
  const rsa = RSA_OIDS[oid];
  if (rsa !== undefined) {
    reader.expect(TAG.null);
    reader.end();
    return { kind: 'rsa-pkcs1', hash: rsa };
  }
  demand(oid === RSA_PSS_OID, 'unsupported-algorithm', `${what} is signed with ${oid}`);
  const parameters = reader.enter(TAG.sequence);
  reader.end();
  return readPss(parameters, what);
}

/** RSASSA-PSS-params (RFC 4055): hash, MGF1 with the same hash, salt; none by default. */
function readPss(parameters: DerReader, what: string): SignatureAlgorithm {
  const hash = readHash(parameters.enter(0xa0), what);
  const mask = parameters.enter(0xa1).enter(TAG.sequence);
  const maskOid = readOid(mask.expect(TAG.oid).content, what);
  const maskHash = readHash(mask, what);
  const isPlain = maskOid === MGF1_OID && maskHash === hash;
  demand(isPlain, 'unsupported-algorithm', `${what} is signed with an unusual form of PSS`);
  const salt = parameters.enter(0xa2).expect(TAG.integer).content;
  if (!parameters.isAtEnd) {
    const trailer = parameters.enter(0xa3).expect(TAG.integer).content;
    const field = readSmallUnsigned(trailer, what);
    demand(field === 1, 'unsupported-algorithm', `${what} is signed with an unusual form of PSS`);
  }
  parameters.end();
  return { kind: 'rsa-pss', hash, saltBytes: readSmallUnsigned(salt, what) };
}

function readHash(reader: DerReader, what: string): DigestName {
  const algorithm = reader.enter(TAG.sequence);
  reader.end();
  const oid = readOid(algorithm.expect(TAG.oid).content, what);
  algorithm.optional(TAG.null);
  algorithm.end();
  const hash = HASH_OIDS[oid];
  if (hash === undefined) throw new AttestError('unsupported-algorithm', `${what}: hash ${oid}`);
  return hash;
}

/** An X.509 ECDSA signature (two DER integers) as r and s; throws 'malformed'. */
function rawEcdsaSignature(der: Bytes, curve: Curve, what: string): Bytes {
  const reader = enterDer(der, TAG.sequence, what);
  const coordinates = [reader.expect(TAG.integer), reader.expect(TAG.integer)];
  reader.end();
  return concatBytes(
    ...coordinates.map(({ content }) => {
      const value = readUnsigned(content, what);
      const bytes = CURVES[curve];
      demand(value.length <= bytes, 'malformed', `${what} is longer than its curve`);
      const padded = new Uint8Array(bytes);
      padded.set(value, bytes - value.length);
      return padded;
    }),
  );
}

/** Keys that were imported, per SubjectPublicKeyInfo object: certificates hold on to theirs. */
const importedKeys = new WeakMap<Bytes, Map<string, Promise<webcrypto.CryptoKey>>>();

/** A key of a SubjectPublicKeyInfo, for one kind of signature. Rejects when they do not fit. */
export function importSpki(
  spki: Bytes,
  algorithm: SignatureAlgorithm,
): Promise<webcrypto.CryptoKey> {
  const keys = importedKeys.get(spki) ?? new Map<string, Promise<webcrypto.CryptoKey>>();
  importedKeys.set(spki, keys);
  const name = `${algorithm.kind} ${algorithm.hash}`;
  const known = keys.get(name);
  if (known !== undefined) return known;
  const imported = importKey(spki, algorithm);
  keys.set(name, imported);
  return imported;
}

async function importKey(spki: Bytes, algorithm: SignatureAlgorithm): Promise<webcrypto.CryptoKey> {
  const { hash } = algorithm;
  if (algorithm.kind === 'ecdsa') {
    const namedCurve = curveOf(spki, 'the signing key');
    return crypto.subtle.importKey('spki', spki, { name: 'ECDSA', namedCurve }, true, ['verify']);
  }
  const name = algorithm.kind === 'rsa-pss' ? 'RSA-PSS' : 'RSASSA-PKCS1-v1_5';
  return crypto.subtle.importKey('spki', spki, { name, hash }, true, ['verify']);
}

/** Whether `signed` was signed with the key of that SubjectPublicKeyInfo; false, too, if unfit. */
export async function isSignedWith(signed: Signed, spki: Bytes): Promise<boolean> {
  const { algorithm, signature, signedBytes } = signed;
  try {
    const key = await importSpki(spki, algorithm);
    if (algorithm.kind === 'ecdsa') {
      const curve = curveOf(spki, 'the signing key');
      const raw = rawEcdsaSignature(signature, curve, 'the signature');
      return await verifyEcdsa(key, curve, algorithm.hash, raw, signedBytes);
    }
    const parameters =
      algorithm.kind === 'rsa-pss'
        ? { name: 'RSA-PSS', saltLength: algorithm.saltBytes }
        : { name: 'RSASSA-PKCS1-v1_5' };
    return await crypto.subtle.verify(parameters, key, signature, signedBytes);
  } catch (error) {
    if (error instanceof AttestError || error instanceof DOMException) return false;
    throw error;
  }
}
