import { beforeAll, describe, expect, it } from 'vitest';
import { type Bytes, concatBytes, equalBytes, utf8 } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { contextTag, TAG } from '../core/der.ts';
import { der, derOctets, derOid, derSequence } from '../core/der-writer.ts';
import { AttestError } from '../core/errors.ts';
import { makeCertificate, NAME, type TestIssuer } from '../testing/certificates.ts';
import { derBoolean, derUnsigned } from '../testing/der-elements.ts';
import {
  answerOcsp,
  declineOcsp,
  makeOcspDelegate,
  type OcspAnswerOptions,
  revokedBecause,
} from '../testing/ocsp-responder.ts';
import { isOcspAbout, readOcspStatus, writeOcspRequest } from './ocsp.ts';

const SHA1 = '1.3.14.3.2.26';
const HASH = derOctets(new Uint8Array(20));
const NUMBER = derUnsigned(Uint8Array.of(1));
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

  it.each(['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'] as const)(
    'names certificates by %s, and each is held to its own',
    async (hash) => {
      const asked = await writeOcspRequest(certificate, issuer, NONCE, hash);
      expect(await statusOf(answerOcsp(ca, asked))).toBe('good');
      expect(await statusOf(answerOcsp(ca, asked, { status: 'revoked' }))).toBe('revoked');
      expect(await statusOf(answerOcsp(ca, asked), NONCE, sibling)).toBe('identity-mismatch');
      const elsewhere = await parseCertificate(other.der, 'another CA of the same name');
      const question = { certificate, issuer: elsewhere };
      expect(await isOcspAbout(await answerOcsp(ca, asked), { certificate, issuer })).toBe(true);
      expect(await isOcspAbout(await answerOcsp(ca, asked), question)).toBe(false);
    },
  );

  it('tells what is on hold from what is revoked for good, by its reason', async () => {
    expect(await statusOf(answerOcsp(ca, request, { status: 'held' }))).toBe('held');
    for (const reason of [0, 1, 4, 5, 8, 9, 10]) {
      const rawStatus = revokedBecause(reason);
      expect(await statusOf(answerOcsp(ca, request, { rawStatus }))).toBe('revoked');
    }
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

  it('may name its responder by key, and need not carry a certificate', async () => {
    const bare = { isByKey: true, carried: null };
    expect(await statusOf(answerOcsp(ca, request, bare))).toBe('good');
    const delegate = await makeOcspDelegate(ca);
    expect(await statusOf(answerOcsp(delegate, request, { isByKey: true }))).toBe('good');
    expect(await statusOf(answerOcsp(other, request, bare))).toBe('signature-invalid');
    expect(await statusOf(answerOcsp(ca, request, { carried: null }))).toBe('good');
  });

  it('is refused of a delegate that is expired, for other things, or not understood', async () => {
    const expired = await makeOcspDelegate(ca, true, { notAfter: '20260501000000' });
    expect(await statusOf(answerOcsp(expired, request))).toBe('collateral-expired');
    const usage = derSequence(derOid('1.3.6.1.5.5.7.3.1'));
    const forServers = await makeOcspDelegate(ca, false, {
      extensions: [{ oid: '2.5.29.37', value: usage }],
    });
    expect(await statusOf(answerOcsp(forServers, request))).toBe('signature-invalid');
    const critical = { oid: '1.2.3.4', isCritical: true, value: derBoolean(true) };
    const limited = await makeOcspDelegate(ca, true, { extensions: [critical] });
    expect(await statusOf(answerOcsp(limited, request))).toBe('signature-invalid');
    const subject = [[NAME.common, 'another CA']] as const;
    const renamed = await makeCertificate({ subject, issuer: null, isCa: true, keys: ca.keys });
    const misnamed = await makeOcspDelegate(renamed);
    expect(await statusOf(answerOcsp(misnamed, request))).toBe('signature-invalid');
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

  it('about another issuer’s certificate of that number is refused', async () => {
    const namesake = await parseCertificate(other.der, 'the namesake');
    const forNamesake = await writeOcspRequest(certificate, namesake, NONCE);
    expect(await statusOf(answerOcsp(ca, forNamesake))).toBe('identity-mismatch');
    const renamed = await makeCertificate({
      subject: [[NAME.common, 'renamed']],
      issuer: null,
      isCa: true,
      keys: ca.keys,
    });
    const sameKey = await parseCertificate(renamed.der, 'the renamed');
    const forRenamed = await writeOcspRequest(certificate, sameKey, NONCE);
    expect(await statusOf(answerOcsp(ca, forRenamed))).toBe('identity-mismatch');
  });

  it.each<[string, OcspAnswerOptions, string]>([
    ['ends at this moment', { nextUpdate: '20260601000000' }, 'good'],
    ['ended a second ago', { nextUpdate: '20260531235959' }, 'collateral-expired'],
    ['is five minutes ahead', { thisUpdate: '20260601000500' }, 'good'],
    ['is further ahead', { thisUpdate: '20260601000501' }, 'collateral-expired'],
    ['is a day old', { thisUpdate: '20260531000000', nextUpdate: null }, 'good'],
    [
      'is more than a day old',
      { thisUpdate: '20260530235959', nextUpdate: null },
      'collateral-expired',
    ],
  ])('that %s: %s', async (_, options, expected) => {
    expect(await statusOf(answerOcsp(ca, request, options))).toBe(expected);
  });

  const entry = (oid: string, isCritical: boolean | null) =>
    derSequence(
      derOid(oid),
      ...(isCritical === null ? [] : [derBoolean(isCritical)]),
      derOctets(derOctets(Uint8Array.of(1))),
    );
  const NONCE_OID = '1.3.6.1.5.5.7.48.1.2';
  const extra = der(TAG.null);
  const date = der(TAG.generalizedTime, utf8('20250101000000Z'));
  it.each<[string, OcspAnswerOptions, string]>([
    ['with an extension that is not known', { extensions: [entry('1.2.3.4', null)] }, 'good'],
    ['with one that is marked as not critical', { extensions: [entry('1.2.3', false)] }, 'good'],
    [
      'with a critical extension that is not known',
      { extensions: [entry('1.2.3.4', true)] },
      'unsupported-version',
    ],
    [
      'with a critical nonce, which is known',
      { nonce: null, extensions: [entry(NONCE_OID, true)] },
      'nonce-mismatch',
    ],
    ['with two nonces', { extensions: [entry(NONCE_OID, null)] }, 'malformed'],
    [
      'with more behind the nonce',
      {
        nonce: null,
        extensions: [
          derSequence(derOid(NONCE_OID), derOctets(concatBytes(derOctets(NONCE), extra))),
        ],
      },
      'trailing-bytes',
    ],
    [
      'with more behind an extension',
      { extensions: [derSequence(derOid('1.2.3'), derOctets(extra), extra)] },
      'trailing-bytes',
    ],
    ['that names its version', { version: der(contextTag(0, true), extra) }, 'unsupported-version'],
    ['of another kind', { type: '1.2.3.4' }, 'unsupported-version'],
    ['with more at its end', { atEndOf: { outer: extra } }, 'trailing-bytes'],
    ['with more behind the answer in it', { atEndOf: { typed: extra } }, 'trailing-bytes'],
    ['with more behind its certificates', { atEndOf: { basic: extra } }, 'trailing-bytes'],
    ['with more behind what is signed', { atEndOf: { data: extra } }, 'trailing-bytes'],
    ['with more behind a part', { atEndOf: { single: extra } }, 'trailing-bytes'],
    [
      'with an extension of a part',
      { atEndOf: { single: der(contextTag(1, true), derSequence(entry('1.2.3', null))) } },
      'good',
    ],
    [
      'with a critical extension of a part',
      { atEndOf: { single: der(contextTag(1, true), derSequence(entry('1.2.3', true))) } },
      'unsupported-version',
    ],
    [
      'with more behind the name of its responder',
      { rawResponder: der(contextTag(1, true), derSequence(), extra) },
      'trailing-bytes',
    ],
    [
      'with more behind the key of its responder',
      { rawResponder: der(contextTag(2, true), derOctets(new Uint8Array(20)), extra) },
      'trailing-bytes',
    ],
    [
      'with more behind its end',
      { rawNext: concatBytes(der(TAG.generalizedTime, utf8('20991231000000Z')), extra) },
      'trailing-bytes',
    ],
    [
      'with more behind its algorithm',
      { rawId: derSequence(derSequence(derOid(SHA1), extra, extra), HASH, HASH, NUMBER) },
      'trailing-bytes',
    ],
    [
      'with more behind its number',
      { rawId: derSequence(derSequence(derOid(SHA1), extra), HASH, HASH, NUMBER, extra) },
      'trailing-bytes',
    ],
    ['in 16 parts', { copies: 16 }, 'good'],
    ['in 17 parts', { copies: 17 }, 'too-large'],
    ['with a status that is none', { rawStatus: der(contextTag(3, false)) }, 'malformed'],
    ['of good with a reason', { rawStatus: der(contextTag(0, false), extra) }, 'malformed'],
    [
      'of revoked, for a reason',
      {
        rawStatus: der(
          contextTag(1, true),
          date,
          der(contextTag(0, true), der(TAG.enumerated, Uint8Array.of(1))),
        ),
      },
      'revoked',
    ],
    [
      'of revoked, with more',
      { rawStatus: der(contextTag(1, true), date, extra) },
      'trailing-bytes',
    ],
  ])('%s: %s', async (_, options, expected) => {
    expect(await statusOf(answerOcsp(ca, request, options))).toBe(expected);
  });

  it('carries 16 certificates at most', async () => {
    const carried = (count: number) => Array.from({ length: count }, () => ca);
    expect(await statusOf(answerOcsp(ca, request, { carried: carried(16) }))).toBe('good');
    expect(await statusOf(answerOcsp(ca, request, { carried: carried(17) }))).toBe('too-large');
  });

  it.each([
    [1, 'malformed request'],
    [2, 'internal error'],
    [3, 'try later'],
    [4, '4'],
    [5, 'unsigned'],
    [6, 'refused'],
    [100, '100'],
  ])('that declines with %i says so: %s', async (status, text) => {
    const question = { certificate, issuer, nonce: null, nowMs: NOW_MS };
    const reading = readOcspStatus(declineOcsp(status), question);
    await expect(reading).rejects.toThrow(`the responder declines: ${text}`);
  });

  it('by another algorithm of the same length is about something else', async () => {
    const oid = derOid(SHA1);
    const changed = request.slice();
    const at = changed.findIndex((_, i) => equalBytes(changed.subarray(i, i + oid.length), oid));
    changed[at + oid.length - 1]! ^= 1;
    expect(await statusOf(answerOcsp(ca, changed))).toBe('identity-mismatch');
  });

  it('that declines is none', async () => {
    expect(await statusOf(declineOcsp(3))).toBe('not-available');
    expect(await statusOf(declineOcsp(100))).toBe('not-available');
  });

  it('is read strictly', async () => {
    const good = await answerOcsp(ca, request);
    expect(await statusOf(Uint8Array.of(...good, 0))).toBe('trailing-bytes');
    expect(await statusOf(good.subarray(0, -1))).toBe('malformed');
    expect(await statusOf(new Uint8Array(64 * 1024))).toBe('malformed');
    expect(await statusOf(new Uint8Array(64 * 1024 + 1))).toBe('too-large');
  });
});
