import { beforeAll, describe, expect, it } from 'vitest';
import type { Bytes } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { AttestError } from '../core/errors.ts';
import { makeCertificate, NAME, type TestIssuer } from '../testing/certificates.ts';
import {
  answerOcsp,
  declineOcsp,
  makeOcspDelegate,
  type OcspAnswerOptions,
} from '../testing/ocsp-responder.ts';
import { readOcspStatus, writeOcspRequest } from './ocsp.ts';

const NOW_MS = Date.UTC(2026, 5, 1);
const NONCE = new Uint8Array(32).fill(7);

let ca: TestIssuer;
let other: TestIssuer;
let certificate: Certificate;
let sibling: Certificate;
let issuer: Certificate;
let request: Bytes;

beforeAll(async () => {
  const subject = (name: string) => [[NAME.common, name]] as const;
  ca = await makeCertificate({ subject: subject('CA'), issuer: null, isCa: true });
  other = await makeCertificate({ subject: subject('CA'), issuer: null, isCa: true });
  const issue = async (serial: Uint8Array) => {
    const made = await makeCertificate({ subject: subject('leaf'), issuer: ca, serial });
    return parseCertificate(made.der, 'the leaf');
  };
  certificate = await issue(Uint8Array.of(0x80, 1));
  sibling = await issue(Uint8Array.of(0x80, 2));
  issuer = await parseCertificate(ca.der, 'the CA');
  request = await writeOcspRequest(certificate, issuer, NONCE);
});

async function statusOf(
  answer: Promise<Bytes> | Bytes,
  nonce: Bytes | null = NONCE,
  about: Certificate = certificate,
): Promise<string> {
  try {
    const question = { certificate: about, issuer, nonce, nowMs: NOW_MS };
    return await readOcspStatus(await answer, question);
  } catch (error) {
    if (error instanceof AttestError) return error.code;
    throw error;
  }
}

describe('an OCSP answer', () => {
  it.each(['good', 'revoked', 'unknown'] as const)('of the issuer says %s', async (status) => {
    expect(await statusOf(answerOcsp(ca, request, { status, carried: [] }))).toBe(status);
  });

  it('may come from whom the issuer named for this, and from no one else', async () => {
    const delegate = await makeOcspDelegate(ca);
    expect(await statusOf(answerOcsp(delegate, request))).toBe('good');
    const unfit = await makeOcspDelegate(ca, false);
    expect(await statusOf(answerOcsp(unfit, request))).toBe('signature-invalid');
    const strange = await makeOcspDelegate(other);
    expect(await statusOf(answerOcsp(strange, request))).toBe('signature-invalid');
    expect(await statusOf(answerOcsp(delegate, request, { carried: [] }))).toBe(
      'signature-invalid',
    );
  });

  it('by another key in the name of the issuer is refused', async () => {
    expect(await statusOf(answerOcsp(other, request, { carried: [] }))).toBe('signature-invalid');
    expect(await statusOf(answerOcsp(other, request))).toBe('signature-invalid');
  });

  it('carries the nonce of the request, unless it was kept from before', async () => {
    const without = answerOcsp(ca, request, { nonce: null });
    expect(await statusOf(without)).toBe('nonce-mismatch');
    const another = answerOcsp(ca, request, { nonce: new Uint8Array(32) });
    expect(await statusOf(another)).toBe('nonce-mismatch');
    expect(await statusOf(another, null)).toBe('good');
  });

  it.each<[string, OcspAnswerOptions]>([
    ['whose time is over', { thisUpdate: '20260501000000', nextUpdate: '20260531235959' }],
    ['whose time is to come', { thisUpdate: '20260601001000' }],
    ['a day old, without an end', { thisUpdate: '20260530235959', nextUpdate: null }],
  ])('%s is refused', async (_, options) => {
    expect(await statusOf(answerOcsp(ca, request, options))).toBe('collateral-expired');
  });

  it('within a day, or a little ahead of our clock, is taken', async () => {
    const today = { thisUpdate: '20260531000001', nextUpdate: null };
    expect(await statusOf(answerOcsp(ca, request, today))).toBe('good');
    const ahead = { thisUpdate: '20260601000459' };
    expect(await statusOf(answerOcsp(ca, request, ahead))).toBe('good');
  });

  it('about another certificate is refused', async () => {
    expect(await statusOf(answerOcsp(ca, request), NONCE, sibling)).toBe('identity-mismatch');
  });

  it('that declines is none', async () => {
    expect(await statusOf(declineOcsp(3))).toBe('not-available');
    expect(await statusOf(declineOcsp(100))).toBe('not-available');
  });

  it('is read strictly', async () => {
    const good = await answerOcsp(ca, request);
    expect(await statusOf(Uint8Array.of(...good, 0))).toBe('trailing-bytes');
    expect(await statusOf(good.subarray(0, -1))).toBe('malformed');
    expect(await statusOf(new Uint8Array(70_000))).toBe('too-large');
  });
});
