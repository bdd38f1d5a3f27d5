import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { UsageError } from '../settings/resolve.ts';

/**
 * SHA-256, in hex, of the SubjectPublicKeyInfo of a PEM file's first certificate: what a client
 * compares with the key that its connection shows. Throws UsageError.
 */
export function tlsSpkiSha256(certificateFile: string): string {
  try {
    const { publicKey } = new X509Certificate(readFileSync(certificateFile));
    const spki = publicKey.export({ type: 'spki', format: 'der' });
    return createHash('sha256').update(spki).digest('hex');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = `--ssl-certfile: cannot read ${certificateFile} (${code ?? message})`;
    throw new UsageError('bad-file', reason, { cause });
  }
}
