import {
  createECDH,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  verify,
} from 'node:crypto';
import type { Random } from '../world/random.ts';
import { p256Key, p256Sign } from './ecdsa.ts';

/** What precedes the 32 bytes of a private key in PKCS #8, by kind. */
const PREFIX: Readonly<Record<string, string>> = {
  ed25519: '302e020100300506032b657004220420',
  x25519: '302e020100300506032b656e04220420',
};

/** A pair of keys from chance that is drawn. */
export function keyPair(kind: string, random: Random) {
  const prefix = PREFIX[kind.toLowerCase()];
  if (prefix === undefined) throw new Error(`no simulated keys of kind ${kind}`);
  const der = Buffer.concat([Buffer.from(prefix, 'hex'), random.bytes(32)]);
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

/** As WebCrypto has one, for a library that looks at what it may be used for. */
function ecdsaKey(key: KeyObject, { name, namedCurve, hash }: Any) {
  const type = key.type;
  const usages = type === 'private' ? ['sign'] : ['verify'];
  return { type, extractable: true, algorithm: { name, namedCurve, hash }, usages, key };
}

/** As OpenSSL calls them. */
const CURVES: Readonly<Record<string, string>> = { 'P-256': 'prime256v1', 'P-384': 'secp384r1' };

interface Key {
  readonly type: string;
  readonly algorithm: { readonly name: string };
  readonly key: KeyObject;
  /** Of a curve whose public keys are points. */
  readonly point?: Buffer;
}

// biome-ignore lint/suspicious/noExplicitAny: as WebCrypto has it
type Any = any;

const bytesOf = (data: Any): Uint8Array =>
  ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);

const nameOf = (algorithm: Any): string =>
  typeof algorithm === 'string' ? algorithm : algorithm.name;

const bufferOf = (bytes: Uint8Array): ArrayBuffer => Uint8Array.from(bytes).buffer;

/**
 * WebCrypto without its threads: what the product uses of it, done at once by node:crypto. What is
 * missing here throws.
 */
export function subtleAtOnce(random: () => Random): Readonly<Record<string, Any>> {
  const rawOf = (key: KeyObject) =>
    Buffer.from(key.export({ format: 'jwk' }).x as string, 'base64url');
  const missing = (name: string) => async () => {
    throw new Error(`${name} is not simulated`);
  };
  return {
    digest: async (algorithm: Any, data: Any) => {
      const hash = nameOf(algorithm).replace('-', '').toLowerCase();
      return bufferOf(createHash(hash).update(bytesOf(data)).digest());
    },
    generateKey: async (algorithm: Any) => {
      const name = nameOf(algorithm);
      if (name === 'ECDH') {
        const curve = createECDH(CURVES[algorithm.namedCurve]!);
        curve.setPrivateKey(random().bytes(32));
        const point = curve.getPublicKey();
        const half = { algorithm: { name }, key: curve, point };
        return { privateKey: { ...half, type: 'private' }, publicKey: { ...half, type: 'public' } };
      }
      if (name === 'ECDSA') {
        const key = p256Key(random());
        return {
          privateKey: ecdsaKey(key, algorithm),
          publicKey: ecdsaKey(createPublicKey(key), algorithm),
        };
      }
      const { privateKey, publicKey } = keyPair(name, random());
      return {
        privateKey: { type: 'private', algorithm: { name }, key: privateKey },
        publicKey: { type: 'public', algorithm: { name }, key: publicKey },
      };
    },
    exportKey: async (format: string, { key, point }: Key) => {
      if (format === 'raw') return bufferOf(point ?? rawOf(key));
      return bufferOf(key.export({ format: 'der', type: format as 'spki' }));
    },
    importKey: async (format: string, data: Any, algorithm: Any) => {
      const name = nameOf(algorithm);
      if (name === 'ECDSA') {
        const key = Buffer.from(bytesOf(data));
        const der = { key, format: 'der', type: format } as const;
        const isPrivate = format === 'pkcs8';
        const read = isPrivate ? createPrivateKey(der as Any) : createPublicKey(der as Any);
        return ecdsaKey(read, algorithm);
      }
      if (format !== 'raw' || name !== 'Ed25519')
        throw new Error(`${format} ${name}: not simulated`);
      const x = Buffer.from(bytesOf(data)).toString('base64url');
      const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
      return { type: 'public', algorithm: { name }, key };
    },
    verify: async (algorithm: Any, { key }: Key, signature: Any, data: Any) => {
      if (nameOf(algorithm) !== 'ECDSA') {
        return verify(null, bytesOf(data), key, bytesOf(signature));
      }
      const how = { key, dsaEncoding: 'ieee-p1363' } as const;
      return verify('sha256', bytesOf(data), how, bytesOf(signature));
    },
    sign: async (algorithm: Any, { key }: Key, data: Any) => {
      if (nameOf(algorithm) !== 'ECDSA') throw new Error('sign is not simulated');
      return bufferOf(p256Sign(key, bytesOf(data)));
    },
    deriveBits: async (algorithm: Any, { key }: Key) =>
      bufferOf(diffieHellman({ privateKey: key, publicKey: algorithm.public.key })),
    encrypt: missing('encrypt'),
    decrypt: missing('decrypt'),
    deriveKey: missing('deriveKey'),
  };
}
