import { createHash } from 'node:crypto';

/** The format of manifests, digests and ciphertexts: every change of it changes this. */
export const SCHEMA = 'bridgekeeper.seal/1';

/** What is hashed or authenticated: a number from 0, a text, or bytes. */
type Field = number | string | Uint8Array;

/**
 * The bytes that stand for `fields` wherever something is hashed or authenticated: first the domain
 * (`SCHEMA`, a space and `purpose`), then each field. A number is a big-endian u64; text
 * (UTF-8) and bytes follow their length as such a number. For one purpose the fields' types are
 * fixed, so that two different lists never give the same bytes.
 */
export function frame(purpose: string, fields: readonly Field[]): Buffer {
  const parts = [sized(Buffer.from(`${SCHEMA} ${purpose}`))];
  for (const field of fields) {
    if (typeof field === 'number') parts.push([u64(field)]);
    else parts.push(sized(typeof field === 'string' ? Buffer.from(field) : field));
  }
  return Buffer.concat(parts.flat());
}

/** SHA-256 of the frame, 64 hex digits. */
export function frameDigest(purpose: string, fields: readonly Field[]): string {
  return createHash('sha256').update(frame(purpose, fields)).digest('hex');
}

function sized(bytes: Uint8Array): Uint8Array[] {
  return [u64(bytes.length), bytes];
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
