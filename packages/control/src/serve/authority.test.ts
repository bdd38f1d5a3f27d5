import { X509Certificate } from 'node:crypto';
import { expect, it } from 'vitest';
import { isDue, makeAuthority, makeServerCertificate } from './authority.ts';

const HOUR_MS = 3600_000;
const NOW_MS = 1_800_000_000_000;

it('makes certificates for clocks that are behind, and anew if its own was ahead', async () => {
  const authority = await makeAuthority(NOW_MS);
  const { certificate } = await makeServerCertificate(authority, ['control'], NOW_MS);
  const { validFrom } = new X509Certificate(certificate);
  expect(Date.parse(validFrom)).toBeLessThanOrEqual(NOW_MS - 14 * HOUR_MS);
  expect(isDue(certificate, NOW_MS)).toBe(false);
  expect(isDue(certificate, NOW_MS - HOUR_MS)).toBe(false);
  // The clock that made it was half a day ahead: others might not believe it for as long.
  expect(isDue(certificate, NOW_MS - 13 * HOUR_MS)).toBe(true);
});
