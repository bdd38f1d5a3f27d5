import { beforeAll, expect, test } from 'vitest';
import type { RevocationStatus } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { AttestError } from '../core/errors.ts';
import { makeCertificate, NAME, type TestIssuer } from '../testing/certificates.ts';
import { answerOcsp, type OcspAnswerOptions } from '../testing/ocsp-responder.ts';
import { givenOcspAnswers } from './given.ts';
import { writeOcspRequest } from './ocsp.ts';

const NOW_MS = Date.UTC(2026, 5, 1);
const STALE = { nextUpdate: '20260201000000' };

let ca: TestIssuer;
let issuer: Certificate;
let certificate: Certificate;
let request: Bytes;

beforeAll(async () => {
  const named = (name: string) => ({ subject: [[NAME.common, name]] as const });
  ca = await makeCertificate({ ...named('CA'), issuer: null, isCa: true });
  issuer = await parseCertificate(ca.der, 'the CA');
  const leaf = await makeCertificate({ ...named('leaf'), issuer: ca });
  certificate = await parseCertificate(leaf.der, 'the leaf');
  // Somebody else's question, whose nonce is of no use here.
  request = await writeOcspRequest(certificate, issuer, new Uint8Array(32), 'SHA-384');
});

const answer = (options: OcspAnswerOptions = {}) => answerOcsp(ca, request, options);

async function statusOf(
  answers: readonly Bytes[],
  rest: RevocationStatus | null = null,
): Promise<string> {
  const asked = rest && { status: async () => rest };
  const source = givenOcspAnswers(answers, NOW_MS, asked);
  try {
    return await source.status(certificate, issuer);
  } catch (error) {
    if (error instanceof AttestError) return error.code;
    throw error;
  }
}

test('answers in files say what they would have said over a network', async () => {
  for (const status of ['good', 'revoked', 'unknown'] as const) {
    expect(await statusOf([await answer({ status })])).toBe(status);
  }
});

test('an answer without a nonce is as good: no file can answer one of ours', async () => {
  expect(await statusOf([await answer({ nonce: null })])).toBe('good');
});

test('an answer of another time, or by somebody else, is none', async () => {
  expect(await statusOf([await answer(STALE)])).toBe('collateral-expired');
  expect(await statusOf([await answer({ thisUpdate: '20270101000000' })])).toBe(
    'collateral-expired',
  );
  const other = await makeCertificate({
    subject: [[NAME.common, 'CA']],
    issuer: null,
    isCa: true,
  });
  expect(await statusOf([await answerOcsp(other, request)])).toBe('signature-invalid');
  expect(await statusOf([])).toBe('not-available');
  expect(await statusOf([await answer(STALE), await answer()])).toBe('good');
});

test('of two that are of this time the worse one counts, in either order', async () => {
  const [good, bad] = [await answer(), await answer({ status: 'revoked' })];
  expect(await statusOf([good, bad])).toBe('revoked');
  expect(await statusOf([bad, good])).toBe('revoked');
});

test('where somebody can be asked, a file speaks against a certificate alone', async () => {
  expect(await statusOf([await answer()], 'revoked')).toBe('revoked');
  expect(await statusOf([await answer(STALE)], 'good')).toBe('good');
  expect(await statusOf([], 'good')).toBe('good');
  expect(await statusOf([await answer({ status: 'revoked' })], 'good')).toBe('revoked');
  const silent = { status: () => Promise.reject(new AttestError('not-available', 'no answer')) };
  const asked = givenOcspAnswers([await answer()], NOW_MS, silent).status(certificate, issuer);
  await expect(asked).rejects.toMatchObject({ code: 'not-available' });
});
