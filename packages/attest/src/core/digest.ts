import { type Bytes, toHex } from './bytes.ts';

export type DigestName = 'SHA-256' | 'SHA-384' | 'SHA-512';

export async function digest(name: DigestName, bytes: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest(name, bytes));
}

export async function sha256Hex(bytes: Bytes): Promise<string> {
  return toHex(await digest('SHA-256', bytes));
}
