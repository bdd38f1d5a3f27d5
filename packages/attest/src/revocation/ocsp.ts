import type { RevocationStatus } from '../claims/context.ts';
import { type Bytes, equalBytes } from '../core/bytes.ts';
import { type Certificate, nameOf, parseCertificate } from '../core/certificate.ts';
import { expiryOf } from '../core/chain.ts';
import { contextTag, enterDer, readBitString, readOid, TAG } from '../core/der.ts';
import { der, derOctets, derOid, derSequence } from '../core/der-writer.ts';
import { demand } from '../core/errors.ts';
import { isSignedWith } from '../core/signature.ts';
import { OCSP_NONCE, type OcspResponse, readOcspResponse } from './ocsp-response.ts';

/** Hashes that name certificates: they identify, and protect nothing. */
const ID_HASHES = {
  'SHA-1': '1.3.14.3.2.26',
  'SHA-256': '2.16.840.1.101.3.4.2.1',
  'SHA-384': '2.16.840.1.101.3.4.2.2',
  'SHA-512': '2.16.840.1.101.3.4.2.3',
} as const;
type IdHash = keyof typeof ID_HASHES;
const ID_HASH_NAMES = Object.keys(ID_HASHES) as readonly IdHash[];
const EXTENDED_KEY_USAGE = '2.5.29.37';
const MAY_SIGN_OCSP = '1.3.6.1.5.5.7.3.9';
const CLOCK_SKEW_MS = 5 * 60_000;
/** How long an answer holds that names no end. */
const DEFAULT_LIFE_MS = 24 * 3_600_000;

/** The names of a certificate in OCSP (RFC 6960). */
interface CertificateId {
  readonly hashOid: string;
  readonly issuerNameHash: Bytes;
  readonly issuerKeyHash: Bytes;
  /** The integer's element, as it stands in the certificate. */
  readonly serial: Bytes;
}

/**
 * The question for one certificate, DER; `nonce` (1 to 32 bytes) is to come back in the answer.
 * `idHash` names the certificate: every responder knows SHA-1, NVIDIA's own clients use SHA-384.
 */
export async function writeOcspRequest(
  certificate: Certificate,
  issuer: Certificate,
  nonce: Bytes,
  idHash: IdHash = 'SHA-1',
): Promise<Bytes> {
  const named = await idOf(certificate, issuer, idHash);
  const { hashOid, issuerNameHash, issuerKeyHash, serial } = named;
  const hash = derSequence(derOid(hashOid), der(TAG.null));
  const id = derSequence(hash, derOctets(issuerNameHash), derOctets(issuerKeyHash), serial);
  const value = derOctets(derOctets(nonce));
  const extensions = derSequence(derSequence(derOid(OCSP_NONCE), value));
  const list = derSequence(derSequence(id));
  return derSequence(derSequence(list, der(contextTag(2, true), extensions)));
}

/** What an answer must be fit for. */
export interface OcspQuestion {
  readonly certificate: Certificate;
  readonly issuer: Certificate;
  /** That of the request; null: an answer kept from before, which can bear none of ours. */
  readonly nonce: Bytes | null;
  readonly nowMs: number;
}

/**
 * What a responder's answer (DER) says of a certificate. Throws AttestError: the reading codes;
 * 'not-available' (the responder declines), 'signature-invalid' (not by the issuer, nor by whom the
 * issuer named for this), 'nonce-mismatch', 'collateral-expired' (stale, or not valid yet) and
 * 'identity-mismatch' (about another certificate).
 */
export async function readOcspStatus(
  answer: Bytes,
  question: OcspQuestion,
): Promise<RevocationStatus> {
  const response = readOcspResponse(answer);
  await verifyResponder(response, question);
  const { nonce } = question;
  const isOurs = nonce === null || (response.nonce !== null && equalBytes(response.nonce, nonce));
  demand(isOurs, 'nonce-mismatch', 'the OCSP answer does not carry the nonce of the request');
  const single = await answerAbout(response, question);
  const name = nameOf(question.certificate);
  demand(single !== undefined, 'identity-mismatch', `the OCSP answer is not about ${name}`);
  const { thisUpdateMs, nextUpdateMs } = single;
  const endMs = nextUpdateMs ?? thisUpdateMs + DEFAULT_LIFE_MS;
  const isFresh = thisUpdateMs <= question.nowMs + CLOCK_SKEW_MS && question.nowMs <= endMs;
  demand(isFresh, 'collateral-expired', `the OCSP answer about ${name} is not of this time`);
  return single.status;
}

/** Whether a responder's answer (DER) is about a certificate; throws as `readOcspResponse` does. */
export async function isOcspAbout(
  answer: Bytes,
  question: Pick<OcspQuestion, 'certificate' | 'issuer'>,
): Promise<boolean> {
  return (await answerAbout(readOcspResponse(answer), question)) !== undefined;
}

/** The part about that certificate, by whichever hash it is named. */
async function answerAbout(
  { answers }: OcspResponse,
  { certificate, issuer }: Pick<OcspQuestion, 'certificate' | 'issuer'>,
) {
  for (const hash of ID_HASH_NAMES) {
    if (!answers.some(({ id }) => id.hashOid === ID_HASHES[hash])) continue;
    const wanted = await idOf(certificate, issuer, hash);
    const found = answers.find(
      ({ id }) =>
        id.hashOid === wanted.hashOid &&
        equalBytes(id.issuerNameHash, wanted.issuerNameHash) &&
        equalBytes(id.issuerKeyHash, wanted.issuerKeyHash) &&
        equalBytes(id.serial, wanted.serial),
    );
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The responder is the issuer itself, or bears its certificate for signing OCSP answers. */
async function verifyResponder(response: OcspResponse, question: OcspQuestion): Promise<void> {
  const { issuer, nowMs } = question;
  const carried = await Promise.all(
    response.certificates.map((one, i) => parseCertificate(one, `OCSP certificate ${i}`)),
  );
  for (const responder of [issuer, ...carried]) {
    if (!(await isNamed(responder, response))) continue;
    if (responder.sha256 !== issuer.sha256) await demandDelegate(responder, issuer, nowMs);
    const isGood = await isSignedWith(response, responder.spki);
    demand(isGood, 'signature-invalid', 'the signature of the OCSP answer does not hold');
    return;
  }
  demand(false, 'signature-invalid', 'the OCSP answer names no responder that is known');
}

async function isNamed(candidate: Certificate, { responder }: OcspResponse): Promise<boolean> {
  if (responder.kind === 'name') return equalBytes(candidate.subjectDer, responder.name);
  return equalBytes(await keyHash(candidate, 'SHA-1'), responder.keyHash);
}

async function demandDelegate(
  responder: Certificate,
  issuer: Certificate,
  nowMs: number,
): Promise<void> {
  const isIssued =
    equalBytes(responder.issuerDer, issuer.subjectDer) &&
    responder.unknownCritical.length === 0 &&
    (await isSignedWith(responder, issuer.spki));
  const name = nameOf(responder);
  demand(isIssued, 'signature-invalid', `${name} is no responder of ${nameOf(issuer)}`);
  const usage = responder.extension(EXTENDED_KEY_USAGE);
  const isMeant = usage !== null && usagesIn(usage).includes(MAY_SIGN_OCSP);
  demand(isMeant, 'signature-invalid', `${name} may not sign OCSP answers`);
  const isValid = expiryOf([responder], nowMs) === null;
  demand(isValid, 'collateral-expired', `the certificate of responder ${name} is not valid now`);
}

function usagesIn(extension: Bytes): string[] {
  const what = 'extended key usage';
  const reader = enterDer(extension, TAG.sequence, what);
  const usages: string[] = [];
  while (!reader.isAtEnd) usages.push(readOid(reader.expect(TAG.oid).content, what));
  return usages;
}

async function idOf(
  certificate: Certificate,
  issuer: Certificate,
  hash: IdHash,
): Promise<CertificateId> {
  const signed = enterDer(certificate.signedBytes, TAG.sequence, 'a certificate');
  signed.optional(contextTag(0, true));
  return {
    hashOid: ID_HASHES[hash],
    issuerNameHash: await hashOf(issuer.subjectDer, hash),
    issuerKeyHash: await keyHash(issuer, hash),
    serial: signed.expect(TAG.integer).whole,
  };
}

/** Of the key's bits alone, without algorithm. */
async function keyHash(certificate: Certificate, hash: IdHash): Promise<Bytes> {
  const reader = enterDer(certificate.spki, TAG.sequence, 'a public key');
  reader.expect(TAG.sequence);
  return hashOf(readBitString(reader.expect(TAG.bitString).content, 'a public key'), hash);
}

async function hashOf(bytes: Bytes, hash: IdHash): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest(hash, bytes));
}
