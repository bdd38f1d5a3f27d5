import type { webcrypto } from 'node:crypto';
import { type Bytes, toBase64 } from '../core/bytes.ts';
import { TAG } from '../core/der.ts';
import { der, derOctets, derOid, derSequence } from '../core/der-writer.ts';
import type { Curve } from '../core/signature.ts';
import {
  derBits,
  derBoolean,
  derEcdsaSignature,
  derText,
  derTime,
  derUnsigned,
} from './der-elements.ts';

/** A certificate of our own with its private key. */
export interface TestIssuer {
  readonly der: Bytes;
  readonly subjectDer: Bytes;
  readonly keys: webcrypto.CryptoKeyPair;
  readonly curve: Curve;
  /** Whether its key is one of RSA-PSS, as those of AMD are, and not on the curve. */
  readonly isRsaPss?: boolean;
}

/** What a test certificate says; whatever is left out is as in a good one. */
export interface TestCertificateOptions {
  /** Attributes of the subject's name by identifier, in order. */
  readonly subject: readonly (readonly [oid: string, value: string])[];
  /** null: it signs itself. */
  readonly issuer: TestIssuer | null;
  readonly curve?: Curve;
  readonly isRsaPss?: boolean;
  readonly keys?: webcrypto.CryptoKeyPair;
  readonly isCa?: boolean;
  readonly pathLength?: number;
  /** `YYYYMMDDhhmmss` */
  readonly notBefore?: string;
  readonly notAfter?: string;
  readonly serial?: Uint8Array;
  readonly extensions?: readonly TestExtension[];
}

export interface TestExtension {
  readonly oid: string;
  readonly isCritical?: boolean;
  /** DER. */
  readonly value: Uint8Array;
}

export const NAME = { common: '2.5.4.3', serial: '2.5.4.5', organisation: '2.5.4.10' } as const;

const ALGORITHMS = {
  'P-256': { hash: 'SHA-256', oid: '1.2.840.10045.4.3.2' },
  'P-384': { hash: 'SHA-384', oid: '1.2.840.10045.4.3.3' },
} as const;

const RSA_PSS = {
  oid: '1.2.840.113549.1.1.10',
  maskOid: '1.2.840.113549.1.1.8',
  hashOid: '2.16.840.1.101.3.4.2.2',
  saltBytes: 48,
} as const;

/** Certificates are told apart by serial number. */
let issued = 0;

/** Makes a certificate with a new key (or the one given), signed by `issuer` or itself. */
export async function makeCertificate(options: TestCertificateOptions): Promise<TestIssuer> {
  const curve = options.curve ?? 'P-384';
  const isRsaPss = options.isRsaPss ?? false;
  const keys = options.keys ?? (await (isRsaPss ? generateRsaKeys() : generateKeys(curve)));
  const subjectDer = makeName(options.subject);
  const signer = options.issuer ?? { keys, curve, isRsaPss, subjectDer };
  const algorithm = algorithmOf(signer);
  const signed = derSequence(
    der(0xa0, derUnsigned(Uint8Array.of(2))),
    derUnsigned(options.serial ?? nextSerial()),
    algorithm,
    signer.subjectDer,
    derSequence(
      derTime(options.notBefore ?? '20200101000000'),
      derTime(options.notAfter ?? '99991231235959'),
    ),
    subjectDer,
    new Uint8Array(await crypto.subtle.exportKey('spki', keys.publicKey)),
    der(0xa3, derSequence(...extensionsOf(options).map(makeExtension))),
  );
  return { der: await signedDer(signer, signed), subjectDer, keys, curve, isRsaPss };
}

/** Whoever signs certificates and the like. */
type TestSigner = Pick<TestIssuer, 'keys' | 'curve' | 'isRsaPss'>;

/** The AlgorithmIdentifier of an issuer's signatures. */
export function algorithmOf({ curve, isRsaPss }: TestSigner): Bytes {
  if (isRsaPss !== true) return derSequence(derOid(ALGORITHMS[curve].oid));
  const hash = derSequence(derOid(RSA_PSS.hashOid));
  const mask = derSequence(derOid(RSA_PSS.maskOid), hash);
  const salt = derUnsigned(Uint8Array.of(RSA_PSS.saltBytes));
  const parameters = derSequence(der(0xa0, hash), der(0xa1, mask), der(0xa2, salt));
  return derSequence(derOid(RSA_PSS.oid), parameters);
}

/** What X.509 calls SIGNED: the bytes (which name the algorithm), the algorithm, the signature. */
export async function signedDer(signer: TestSigner, bytes: Bytes): Promise<Bytes> {
  const { keys, curve, isRsaPss } = signer;
  const signature =
    isRsaPss === true
      ? await signRsaPss(keys.privateKey, bytes)
      : derEcdsaSignature(await signEcdsa(keys.privateKey, curve, bytes));
  return derSequence(bytes, algorithmOf(signer), derBits(signature));
}

async function signRsaPss(key: webcrypto.CryptoKey, message: Bytes): Promise<Bytes> {
  const algorithm = { name: 'RSA-PSS', saltLength: RSA_PSS.saltBytes };
  return new Uint8Array(await crypto.subtle.sign(algorithm, key, message));
}

/** A quarter as long as AMD's: it protects nothing, and tests need not wait for it. */
async function generateRsaKeys(): Promise<webcrypto.CryptoKeyPair> {
  const publicExponent = Uint8Array.of(1, 0, 1);
  const algorithm = { name: 'RSA-PSS', modulusLength: 1024, publicExponent, hash: 'SHA-384' };
  return crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

export async function generateKeys(curve: Curve): Promise<webcrypto.CryptoKeyPair> {
  const algorithm = { name: 'ECDSA', namedCurve: curve };
  return crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

/** ECDSA with the hash that goes with the curve; r and s joined. */
export async function signEcdsa(
  key: webcrypto.CryptoKey,
  curve: Curve,
  message: Bytes,
): Promise<Bytes> {
  const { hash } = ALGORITHMS[curve];
  return new Uint8Array(await crypto.subtle.sign({ name: 'ECDSA', hash }, key, message));
}

/** Leaf first, as chains are written down. */
export function toPem(chain: readonly TestIssuer[]): string {
  return chain.map(({ der: bytes }) => pemBlock(bytes)).join('');
}

function pemBlock(bytes: Bytes): string {
  const lines = toBase64(bytes).match(/.{1,64}/g) ?? [];
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
}

function makeName(attributes: readonly (readonly [string, string])[]): Bytes {
  const parts = attributes.map(([oid, value]) =>
    der(TAG.set, derSequence(derOid(oid), derText(value))),
  );
  return derSequence(...parts);
}

function extensionsOf(options: TestCertificateOptions): TestExtension[] {
  const isCa = options.isCa ?? false;
  const usage = der(TAG.bitString, isCa ? Uint8Array.of(1, 0x06) : Uint8Array.of(7, 0x80));
  const limits =
    options.pathLength === undefined ? [] : [derUnsigned(Uint8Array.of(options.pathLength))];
  const constraints = derSequence(...(isCa ? [derBoolean(true), ...limits] : []));
  return [
    ...(isCa ? [{ oid: '2.5.29.19', isCritical: true, value: constraints }] : []),
    { oid: '2.5.29.15', isCritical: true, value: usage },
    ...(options.extensions ?? []),
  ];
}

function makeExtension({ oid, isCritical, value }: TestExtension): Bytes {
  const critical = isCritical === true ? [derBoolean(true)] : [];
  return derSequence(derOid(oid), ...critical, derOctets(value));
}

function nextSerial(): Uint8Array {
  issued++;
  return Uint8Array.of(1, issued >> 16, (issued >> 8) & 0xff, issued & 0xff);
}
