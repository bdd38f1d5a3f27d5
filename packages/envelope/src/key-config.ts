import { ByteReader, type Bytes, concat, u8, u16 } from './bytes.ts';
import { EnvelopeError } from './errors.ts';

/** By their numbers in IANA's registry of HPKE. */
export const KEM_P256 = 0x0010;
export const KEM_X25519 = 0x0020;
export const KDF_SHA256 = 0x0001;
export const AEAD_AES_128_GCM = 0x0001;
export const AEAD_AES_256_GCM = 0x0002;

/** Bytes of a public key, and of an encapsulated one. */
export const KEY_BYTES: ReadonlyMap<number, number> = new Map([
  [KEM_P256, 65],
  [KEM_X25519, 32],
]);

export interface Algorithms {
  readonly kdf: number;
  readonly aead: number;
}

/** A key to encrypt requests to, and what it is used with: RFC 9458, section 3.1. */
export interface KeyConfig {
  readonly id: number;
  readonly kem: number;
  readonly publicKey: Bytes;
  readonly algorithms: readonly Algorithms[];
}

const CONFIGS_BYTES_MAX = 64 * 1024;

/** `application/ohttp-keys`: RFC 9458, section 3.2. */
export const KEYS_MEDIA_TYPE = 'application/ohttp-keys';

export function encodeKeyConfigs(configs: readonly KeyConfig[]): Bytes {
  const each = configs.map(({ id, kem, publicKey, algorithms }) => {
    const pairs = concat(...algorithms.flatMap(({ kdf, aead }) => [u16(kdf), u16(aead)]));
    const config = concat(u8(id), u16(kem), publicKey, u16(pairs.length), pairs);
    return concat(u16(config.length), config);
  });
  return concat(...each);
}

/**
 * The configurations that can be used here, in their order; others are left out, as the RFC asks.
 * Throws EnvelopeError.
 */
export function readKeyConfigs(bytes: Uint8Array): KeyConfig[] {
  if (bytes.length > CONFIGS_BYTES_MAX) {
    throw new EnvelopeError('too-large', `key configurations over ${CONFIGS_BYTES_MAX} bytes`);
  }
  const reader = new ByteReader(bytes);
  const configs: KeyConfig[] = [];
  while (reader.rest > 0) {
    const config = readKeyConfig(reader.take(reader.u16()));
    if (config !== null) configs.push(config);
  }
  return configs;
}

/** null: it is for a KEM that is not spoken here. */
export function readKeyConfig(bytes: Uint8Array): KeyConfig | null {
  const reader = new ByteReader(bytes);
  const id = reader.u8();
  const kem = reader.u16();
  const keyBytes = KEY_BYTES.get(kem);
  if (keyBytes === undefined) return null;
  const publicKey = reader.take(keyBytes);
  const pairs = new ByteReader(reader.take(reader.u16()));
  const algorithms: Algorithms[] = [];
  while (pairs.rest > 0) algorithms.push({ kdf: pairs.u16(), aead: pairs.u16() });
  if (reader.rest > 0) throw new EnvelopeError('malformed', 'a key configuration goes on');
  return { id, kem, publicKey, algorithms };
}
