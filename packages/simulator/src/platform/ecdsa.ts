import { createECDH, createHash, createHmac, createPrivateKey, type KeyObject } from 'node:crypto';
import type { Random } from '../world/random.ts';

/*
 * Keys of the curve P-256, and signatures that are the same whenever the same is signed (RFC 6979):
 * OpenSSL draws a number of its own for each.
 */

/** As OpenSSL calls it. */
const CURVE = 'prime256v1';
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const BYTES = 32;

/** A private key from chance that is drawn. */
export function p256Key(random: Random): KeyObject {
  const half = createECDH(CURVE);
  const secret = random.bytes(BYTES);
  // Below the order, which begins with 32 bits that are all ones.
  secret[0]! &= 0x7f;
  half.setPrivateKey(secret);
  const point = half.getPublicKey();
  const text = (bytes: Buffer) => bytes.toString('base64url');
  const [x, y] = [text(point.subarray(1, 1 + BYTES)), text(point.subarray(1 + BYTES))];
  const jwk = { kty: 'EC', crv: 'P-256', x, y, d: text(secret) };
  return createPrivateKey({ key: jwk, format: 'jwk' });
}

/** `r` and `s` over the SHA-256 of `data`, 64 bytes, as WebCrypto has them. */
export function p256Sign(key: KeyObject, data: Uint8Array): Buffer {
  const secret = Buffer.from(key.export({ format: 'jwk' }).d!, 'base64url');
  const digest = createHash('sha256').update(data).digest();
  for (const nonce of noncesOf(secret, digest)) {
    const half = createECDH(CURVE);
    half.setPrivateKey(bytesOf(nonce));
    const r = numberOf(half.getPublicKey().subarray(1, 1 + BYTES)) % ORDER;
    const s = (inverse(nonce) * (numberOf(digest) + r * numberOf(secret))) % ORDER;
    if (r !== 0n && s !== 0n) return Buffer.concat([bytesOf(r), bytesOf(s)]);
  }
  throw new Error('no signature');
}

/** RFC 6979, section 3.2, with SHA-256. */
function* noncesOf(secret: Buffer, digest: Buffer): Generator<bigint> {
  const reduced = bytesOf(numberOf(digest) % ORDER);
  const mac = (key: Buffer, ...parts: Buffer[]) =>
    createHmac('sha256', key).update(Buffer.concat(parts)).digest();
  let value: Buffer = Buffer.alloc(BYTES, 1);
  let key: Buffer = Buffer.alloc(BYTES, 0);
  for (const octet of [0, 1]) {
    key = mac(key, value, Buffer.from([octet]), secret, reduced);
    value = mac(key, value);
  }
  for (;;) {
    value = mac(key, value);
    const nonce = numberOf(value);
    if (nonce > 0n && nonce < ORDER) yield nonce;
    key = mac(key, value, Buffer.from([0]));
    value = mac(key, value);
  }
}

const numberOf = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
const bytesOf = (number: bigint) =>
  Buffer.from(number.toString(16).padStart(2 * BYTES, '0'), 'hex');

/** By Fermat: the order is prime. */
function inverse(number: bigint): bigint {
  let result = 1n;
  let power = number % ORDER;
  for (let rest = ORDER - 2n; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * power) % ORDER;
    power = (power * power) % ORDER;
  }
  return result;
}
