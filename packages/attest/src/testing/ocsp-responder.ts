import type { RevocationStatus } from '../claims/context.ts';
import { type Bytes, utf8 } from '../core/bytes.ts';
import { contextTag, type DerReader, enterDer, TAG } from '../core/der.ts';
import {
  der,
  derBits,
  derEcdsaSignature,
  derOctets,
  derOid,
  derSequence,
} from '../core/der-writer.ts';
import { OCSP_NONCE } from '../revocation/ocsp-response.ts';
import { makeCertificate, NAME, signEcdsa, type TestIssuer } from './certificates.ts';

/** How a test responder answers; whatever is left out is as in a good answer. */
export interface OcspAnswerOptions {
  readonly status?: RevocationStatus;
  /** `YYYYMMDDhhmmss` */
  readonly thisUpdate?: string;
  /** null: left out. */
  readonly nextUpdate?: string | null;
  /** null: left out; by default, that of the request. */
  readonly nonce?: Bytes | null;
  /** Carried with the answer; by default the responder's, unless it is the issuer. */
  readonly carried?: readonly TestIssuer[];
}

const BASIC = '1.3.6.1.5.5.7.48.1.1';
const ECDSA_SHA384 = '1.2.840.10045.4.3.3';
const MAY_SIGN_OCSP = derSequence(derOid('1.3.6.1.5.5.7.3.9'));

/** Whom an issuer lets sign its OCSP answers; `isMeant` false: for something else. */
export async function makeOcspDelegate(issuer: TestIssuer, isMeant = true): Promise<TestIssuer> {
  return makeCertificate({
    subject: [[NAME.common, 'OCSP responder']],
    issuer,
    extensions: isMeant ? [{ oid: '2.5.29.37', value: MAY_SIGN_OCSP }] : [],
  });
}

/** The answer (DER) of `responder` to a request (DER). */
export async function answerOcsp(
  responder: TestIssuer,
  request: Bytes,
  options: OcspAnswerOptions = {},
): Promise<Bytes> {
  const asked = readRequest(request);
  const nonce = options.nonce === undefined ? asked.nonce : options.nonce;
  const next = options.nextUpdate === undefined ? '20991231000000' : options.nextUpdate;
  const single = derSequence(
    asked.id,
    statusOf(options.status ?? 'good'),
    time(options.thisUpdate ?? '20260101000000'),
    ...(next === null ? [] : [der(contextTag(0, true), time(next))]),
  );
  const data = derSequence(
    der(contextTag(1, true), responder.subjectDer),
    time('20260101000000'),
    derSequence(single),
    ...(nonce === null ? [] : [der(contextTag(1, true), nonceExtension(nonce))]),
  );
  const signature = await signEcdsa(responder.keys.privateKey, 'P-384', data);
  const carried = (options.carried ?? [responder]).map((one) => one.der);
  const basic = derSequence(
    data,
    derSequence(derOid(ECDSA_SHA384)),
    derBits(derEcdsaSignature(signature)),
    der(contextTag(0, true), derSequence(...carried)),
  );
  return derSequence(
    der(TAG.enumerated, Uint8Array.of(0)),
    der(contextTag(0, true), derSequence(derOid(BASIC), derOctets(basic))),
  );
}

/** What a responder says that does not answer: 3 is `try later`. */
export function declineOcsp(status: number): Bytes {
  return derSequence(der(TAG.enumerated, Uint8Array.of(status)));
}

function readRequest(request: Bytes): { id: Bytes; nonce: Bytes } {
  const body = enterDer(request, TAG.sequence, 'the request').enter(TAG.sequence);
  const id = body.enter(TAG.sequence).enter(TAG.sequence).expect(TAG.sequence).whole;
  const extension: DerReader = body.enter(contextTag(2, true)).enter(TAG.sequence);
  const entry = extension.enter(TAG.sequence);
  entry.expect(TAG.oid);
  return { id, nonce: entry.enter(TAG.octetString).expect(TAG.octetString).content };
}

function nonceExtension(nonce: Bytes): Bytes {
  return derSequence(derSequence(derOid(OCSP_NONCE), derOctets(derOctets(nonce))));
}

function statusOf(status: RevocationStatus): Bytes {
  if (status === 'revoked') return der(contextTag(1, true), time('20250101000000'));
  return der(contextTag(status === 'good' ? 0 : 2, false));
}

function time(digits: string): Bytes {
  return der(TAG.generalizedTime, utf8(`${digits}Z`));
}
