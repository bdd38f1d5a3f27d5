import { type Bytes, fromHex } from './bytes.ts';
import { AttestError } from './errors.ts';

/**
 * Whether `signatureHex` (64 bytes) over `message` is by the raw public key `keyHex` (32 bytes).
 * Throws AttestError 'not-available' where this runtime's WebCrypto has no Ed25519, and 'malformed'
 * for what is not hexadecimal.
 */
export async function verifyEd25519(
  keyHex: string,
  signatureHex: string,
  message: Bytes,
): Promise<boolean> {
  const raw = fromHex(keyHex, 'the Ed25519 key');
  const signature = fromHex(signatureHex, 'the Ed25519 signature');
  if (raw.length !== 32 || signature.length !== 64) return false;
  let key: Awaited<ReturnType<typeof crypto.subtle.importKey>>;
  try {
    key = await crypto.subtle.importKey('raw', raw, 'Ed25519', false, ['verify']);
  } catch (cause) {
    if ((cause as Error).name !== 'NotSupportedError') return false;
    throw new AttestError('not-available', 'WebCrypto has no Ed25519 here', { cause });
  }
  return crypto.subtle.verify('Ed25519', key, signature, message);
}
