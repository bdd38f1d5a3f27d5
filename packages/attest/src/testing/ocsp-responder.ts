import type { RevocationStatus } from '../claims/context.ts';
import { type Bytes, concatBytes, utf8 } from '../core/bytes.ts';
import { contextTag, type DerReader, enterDer, TAG } from '../core/der.ts';
import { der, derOctets, derOid, derSequence } from '../core/der-writer.ts';
import { OCSP_NONCE } from '../revocation/ocsp-response.ts';
import {
  makeCertificate,
  NAME,
  signEcdsa,
  type TestCertificateOptions,
  type TestIssuer,
} from './certificates.ts';
import { derBits, derEcdsaSignature } from './der-elements.ts';

/** How a test responder answers; whatever is left out is as in a good answer. */
export interface OcspAnswerOptions {
  readonly status?: RevocationStatus;
  /** `YYYYMMDDhhmmss` */
  readonly thisUpdate?: string;
  /** null: left out. */
  readonly nextUpdate?: string | null;
  /** null: left out; by default, that of the request. */
  readonly nonce?: Bytes | null;
  /** Carried with the answer, null: no field for it; by default the responder's. */
  readonly carried?: readonly TestIssuer[] | null;
  /** Whether the responder is named by its key instead of its subject. */
  readonly isByKey?: boolean;
  /** How many times the part about the certificate is there. */
  readonly copies?: number;
  /** How the certificate is named, in the place of the request's. DER, as all that follows. */
  readonly rawId?: Bytes;
  /** Who answers, in the place of the name or the key. */
  readonly rawResponder?: Bytes;
  /** When it ends, in the place of `nextUpdate`. */
  readonly rawNext?: Bytes;
  /** The status as it stands, in the place of `status`. */
  readonly rawStatus?: Bytes;
  /** The kind of answer, instead of a basic one. */
  readonly type?: string;
  /** Before everything else that is signed. */
  readonly version?: Bytes;
  /** Behind the nonce, among the extensions of the answer. */
  readonly extensions?: readonly Bytes[];
  /** At the end of the part about the certificate, of what is signed, of all, of the whole. */
  readonly atEndOf?: Partial<Record<'single' | 'data' | 'basic' | 'typed' | 'outer', Bytes>>;
}

const BASIC = '1.3.6.1.5.5.7.48.1.1';
const ECDSA_SHA384 = '1.2.840.10045.4.3.3';
const MAY_SIGN_OCSP = derSequence(derOid('1.3.6.1.5.5.7.3.9'));

/** Whom an issuer lets sign its OCSP answers; `isMeant` false: for something else. */
export async function makeOcspDelegate(
  issuer: TestIssuer,
  isMeant = true,
  changes: Pick<TestCertificateOptions, 'notAfter' | 'extensions'> = {},
): Promise<TestIssuer> {
  return makeCertificate({
    ...changes,
    subject: [[NAME.common, 'OCSP responder']],
    issuer,
    extensions: [
      ...(isMeant ? [{ oid: '2.5.29.37', value: MAY_SIGN_OCSP }] : []),
      ...(changes.extensions ?? []),
    ],
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
  const end = (part: keyof NonNullable<OcspAnswerOptions['atEndOf']>) => {
    const bytes = options.atEndOf?.[part];
    return bytes === undefined ? [] : [bytes];
  };
  const single = derSequence(
    options.rawId ?? asked.id,
    options.rawStatus ?? statusOf(options.status ?? 'good'),
    time(options.thisUpdate ?? '20260101000000'),
    ...(next === null ? [] : [der(contextTag(0, true), options.rawNext ?? time(next))]),
    ...end('single'),
  );
  const extensions = [
    ...(nonce === null ? [] : [nonceExtension(nonce)]),
    ...(options.extensions ?? []),
  ];
  const name = options.isByKey
    ? der(contextTag(2, true), derOctets(await keyHashOf(responder)))
    : der(contextTag(1, true), responder.subjectDer);
  const data = derSequence(
    ...(options.version === undefined ? [] : [options.version]),
    options.rawResponder ?? name,
    time('20260101000000'),
    derSequence(...Array.from({ length: options.copies ?? 1 }, () => single)),
    ...(extensions.length === 0 ? [] : [der(contextTag(1, true), derSequence(...extensions))]),
    ...end('data'),
  );
  const signature = await signEcdsa(responder.keys.privateKey, 'P-384', data);
  const list = options.carried === undefined ? [responder] : options.carried;
  const carried = list?.map((one) => one.der);
  const basic = derSequence(
    data,
    derSequence(derOid(ECDSA_SHA384)),
    derBits(derEcdsaSignature(signature)),
    ...(carried === undefined ? [] : [der(contextTag(0, true), derSequence(...carried))]),
    ...end('basic'),
  );
  const type = derOid(options.type ?? BASIC);
  return derSequence(
    der(TAG.enumerated, Uint8Array.of(0)),
    der(contextTag(0, true), derSequence(type, derOctets(basic), ...end('typed'))),
    ...end('outer'),
  );
}

/** SHA-1 of a key's bits: what names a responder by its key. */
async function keyHashOf({ keys }: TestIssuer): Promise<Bytes> {
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey));
  return new Uint8Array(await crypto.subtle.digest('SHA-1', raw));
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
  return derSequence(derOid(OCSP_NONCE), derOctets(derOctets(nonce)));
}

function statusOf(status: RevocationStatus): Bytes {
  if (status === 'revoked') return der(contextTag(1, true), time('20250101000000'));
  if (status === 'held') return revokedBecause(6);
  return der(contextTag(status === 'good' ? 0 : 2, false));
}

/** Revoked, with a reason (CRLReason; 6: on hold). */
export function revokedBecause(reason: number): Bytes {
  const element = der(TAG.enumerated, Uint8Array.of(reason));
  return der(
    contextTag(1, true),
    concatBytes(time('20250101000000'), der(contextTag(0, true), element)),
  );
}

function time(digits: string): Bytes {
  return der(TAG.generalizedTime, utf8(`${digits}Z`));
}
