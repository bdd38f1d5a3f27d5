import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/** Files of a certificate for localhost that no authority signed. */
export interface TestCertificate {
  readonly key: string;
  readonly cert: string;
  /** Whether they could be made: that takes the openssl command. */
  readonly exists: boolean;
}

export function makeCertificate(folder: string): TestCertificate {
  const key = join(folder, 'key.pem');
  const cert = join(folder, 'cert.pem');
  const subject = ['-subj', '/CN=localhost', '-days', '2', '-nodes'];
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    ...[...subject, '-keyout', key, '-out', cert],
  ]);
  return { key, cert, exists: made.status === 0 };
}
