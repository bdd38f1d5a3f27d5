import { hash } from 'node:crypto';

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
  const parts = [`${SCHEMA} ${purpose}`, ...fields].map((field) =>
    typeof field === 'string' ? Buffer.from(field) : field,
  );
  const size = (part: number | Uint8Array) => (typeof part === 'number' ? 8 : 8 + part.length);
  // A model has tens of thousands of chunks, each with its frame: one buffer for all parts.
  const bytes = Buffer.allocUnsafe(parts.reduce<number>((total, part) => total + size(part), 0));
  let at = 0;
  for (const part of parts) {
    bytes.writeBigUInt64BE(BigInt(typeof part === 'number' ? part : part.length), at);
    if (typeof part !== 'number') bytes.set(part, at + 8);
    at += size(part);
  }
  return bytes;
}

/** SHA-256 of the frame, 64 hex digits. */
export function frameDigest(purpose: string, fields: readonly Field[]): string {
  return hash('sha256', frame(purpose, fields), 'hex');
}
