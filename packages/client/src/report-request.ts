import type { ServerAddress } from './address.ts';
import { ClientError } from './errors.ts';

export const REPORT_BYTES_MAX = 8 * 1024 * 1024;

export function reportPath({ basePath }: ServerAddress, nonceHex: string): string {
  return `${basePath}/v1/attestation/report?nonce=${nonceHex}`;
}

const ADVICE: Readonly<Record<number, string>> = {
  401: ': it wants to see that its key is known (`apiKey`)',
  404: ': it has no report at this path',
};

/** Throws ClientError 'unreachable' for an answer that is none. */
export function requireReport({ origin, basePath }: ServerAddress, { status }: Response): void {
  if (status === 200) return;
  const message = `${origin}${basePath} answers status ${status} when asked for its report`;
  throw new ClientError('unreachable', message + (ADVICE[status] ?? ''));
}
