import {
  Aes128Gcm,
  Aes256Gcm,
  CipherSuite,
  DhkemP256HkdfSha256,
  DhkemX25519HkdfSha256,
  HkdfSha256,
} from '@hpke/core';
import { type Bytes, concat, u8, u16, utf8 } from './bytes.ts';
import { EnvelopeError } from './errors.ts';
import {
  AEAD_AES_128_GCM,
  AEAD_AES_256_GCM,
  type Algorithms,
  KDF_SHA256,
  KEM_P256,
  KEM_X25519,
} from './key-config.ts';

/** What one request is encrypted with. */
export interface SuiteId extends Algorithms {
  readonly kem: number;
}

/** Bytes of the AEAD's key, by its number. Its nonce has 12, its tag 16. */
const AEAD_KEY_BYTES: ReadonlyMap<number, number> = new Map([
  [AEAD_AES_128_GCM, 16],
  [AEAD_AES_256_GCM, 32],
]);
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

/** Throws EnvelopeError 'unsupported'. */
export function keyBytesOf({ aead }: Algorithms): number {
  const bytes = AEAD_KEY_BYTES.get(aead);
  if (bytes === undefined) throw new EnvelopeError('unsupported', `AEAD ${aead} is not spoken`);
  return bytes;
}

export const isSpoken = ({ kdf, aead }: Algorithms): boolean =>
  kdf === KDF_SHA256 && AEAD_KEY_BYTES.has(aead);

/** Throws EnvelopeError 'unsupported'. */
export function openSuite({ kem, kdf, aead }: SuiteId): CipherSuite {
  const isKnown = kem === KEM_P256 || kem === KEM_X25519;
  if (!isKnown || !isSpoken({ kdf, aead })) {
    throw new EnvelopeError('unsupported', `KEM ${kem}, KDF ${kdf}, AEAD ${aead} is not spoken`);
  }
  return new CipherSuite({
    kem: kem === KEM_P256 ? new DhkemP256HkdfSha256() : new DhkemX25519HkdfSha256(),
    kdf: new HkdfSha256(),
    aead: aead === AEAD_AES_128_GCM ? new Aes128Gcm() : new Aes256Gcm(),
  });
}

/** What begins a request, and is bound into its keys. */
export function headerOf(id: number, { kem, kdf, aead }: SuiteId): Bytes {
  return concat(u8(id), u16(kem), u16(kdf), u16(aead));
}

export const requestInfo = (header: Uint8Array): Bytes =>
  concat(utf8('message/bhttp chunked request'), u8(0), header);
