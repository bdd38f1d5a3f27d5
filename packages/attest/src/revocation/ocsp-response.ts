import type { RevocationStatus } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import {
  contextTag,
  DerReader,
  enterDer,
  readBitString,
  readBoolean,
  readOid,
  readSmallUnsigned,
  readTime,
  TAG,
} from '../core/der.ts';
import { AttestError, demand } from '../core/errors.ts';
import { readSignatureAlgorithm, type Signed } from '../core/signature.ts';

const WHAT = 'the OCSP answer';
const RESPONSE_BYTES_MAX = 64 * 1024;
const COUNT_MAX = 16;
const BASIC = '1.3.6.1.5.5.7.48.1.1';
export const OCSP_NONCE = '1.3.6.1.5.5.7.48.1.2';
const ON_HOLD = 6;
const DECLINED = [
  '',
  'malformed request',
  'internal error',
  'try later',
  '',
  'unsigned',
  'refused',
];

/** What a responder says of one certificate. */
interface OcspAnswer {
  readonly id: {
    readonly hashOid: string;
    readonly issuerNameHash: Bytes;
    readonly issuerKeyHash: Bytes;
    /** The integer's element. */
    readonly serial: Bytes;
  };
  readonly status: RevocationStatus;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number | null;
}

/** A basic OCSP response (RFC 6960), whether or not its signature holds. Plain data. */
export interface OcspResponse extends Signed {
  readonly responder:
    | { readonly kind: 'name'; readonly name: Bytes }
    | { readonly kind: 'key'; readonly keyHash: Bytes };
  readonly answers: readonly OcspAnswer[];
  readonly nonce: Bytes | null;
  /** DER. */
  readonly certificates: readonly Bytes[];
}

/**
 * Strict. Throws AttestError 'not-available' where the responder declines, 'malformed',
 * 'trailing-bytes', 'too-large', 'unsupported-version' or 'unsupported-algorithm'.
 */
export function readOcspResponse(bytes: Bytes): OcspResponse {
  demand(bytes.length <= RESPONSE_BYTES_MAX, 'too-large', `${WHAT} has ${bytes.length} bytes`);
  const outer = enterDer(bytes, TAG.sequence, WHAT);
  const status = readSmallUnsigned(outer.expect(TAG.enumerated).content, WHAT);
  demand(status === 0, 'not-available', `the responder declines: ${DECLINED[status] || status}`);
  const typed = outer.enter(contextTag(0, true)).enter(TAG.sequence);
  outer.end();
  const type = readOid(typed.expect(TAG.oid).content, WHAT);
  demand(type === BASIC, 'unsupported-version', `${WHAT} is of type ${type}`);
  const basic = enterDer(typed.expect(TAG.octetString).content, TAG.sequence, WHAT);
  typed.end();
  const data = basic.expect(TAG.sequence);
  const algorithm = basic.expect(TAG.sequence);
  const signature = readBitString(basic.expect(TAG.bitString).content, WHAT);
  const certificates = readCertificates(basic);
  basic.end();
  return {
    ...readData(new DerReader(data.content, WHAT)),
    certificates,
    signedBytes: data.whole,
    algorithm: readSignatureAlgorithm(algorithm.content, WHAT),
    signature,
  };
}

function readCertificates(basic: DerReader): Bytes[] {
  const field = basic.optional(contextTag(0, true));
  if (field === null) return [];
  const list = enterDer(field.content, TAG.sequence, WHAT);
  const certificates: Bytes[] = [];
  while (!list.isAtEnd) certificates.push(list.expect(TAG.sequence).whole);
  const isBounded = certificates.length <= COUNT_MAX;
  demand(isBounded, 'too-large', `${WHAT} carries ${certificates.length} certificates`);
  return certificates;
}

function readData(data: DerReader): Pick<OcspResponse, 'responder' | 'answers' | 'nonce'> {
  const version = data.optional(contextTag(0, true));
  demand(version === null, 'unsupported-version', `${WHAT} names a version, which 1 never does`);
  const responder = readResponder(data);
  readTime(data.expect(TAG.generalizedTime), WHAT);
  const list = data.enter(TAG.sequence);
  const answers: OcspAnswer[] = [];
  while (!list.isAtEnd) answers.push(readAnswer(list.enter(TAG.sequence)));
  demand(answers.length > 0, 'malformed', `${WHAT} is about no certificate`);
  demand(answers.length <= COUNT_MAX, 'too-large', `${WHAT} has ${answers.length} parts`);
  const extensions = data.optional(contextTag(1, true));
  data.end();
  const known = extensions === null ? new Map<string, Bytes>() : readExtensions(extensions.content);
  const value = known.get(OCSP_NONCE);
  return { responder, answers, nonce: value === undefined ? null : readNonce(value) };
}

function readResponder(data: DerReader): OcspResponse['responder'] {
  const name = data.optional(contextTag(1, true));
  if (name !== null) {
    const reader = new DerReader(name.content, WHAT);
    const { whole } = reader.expect(TAG.sequence);
    reader.end();
    return { kind: 'name', name: whole };
  }
  const reader = data.enter(contextTag(2, true));
  const keyHash = reader.expect(TAG.octetString).content;
  reader.end();
  return { kind: 'key', keyHash };
}

function readAnswer(reader: DerReader): OcspAnswer {
  const id = reader.enter(TAG.sequence);
  const hash = id.enter(TAG.sequence);
  const hashOid = readOid(hash.expect(TAG.oid).content, WHAT);
  hash.optional(TAG.null);
  hash.end();
  const issuerNameHash = id.expect(TAG.octetString).content;
  const issuerKeyHash = id.expect(TAG.octetString).content;
  const serial = id.expect(TAG.integer).whole;
  id.end();
  const status = readStatus(reader);
  const thisUpdateMs = readTime(reader.expect(TAG.generalizedTime), WHAT);
  const next = reader.optional(contextTag(0, true));
  const nextUpdateMs = next === null ? null : readNested(next.content);
  const extensions = reader.optional(contextTag(1, true));
  if (extensions !== null) readExtensions(extensions.content);
  reader.end();
  const named = { hashOid, issuerNameHash, issuerKeyHash, serial };
  return { id: named, status, thisUpdateMs, nextUpdateMs };
}

function readNested(content: Bytes): number {
  const reader = new DerReader(content, WHAT);
  const timeMs = readTime(reader.expect(TAG.generalizedTime), WHAT);
  reader.end();
  return timeMs;
}

/** Revoked is revoked, whatever the reason but that it is on hold. */
function readStatus(reader: DerReader): RevocationStatus {
  const { tag, content } = reader.next();
  if (tag === contextTag(1, true)) {
    const revoked = new DerReader(content, WHAT);
    readTime(revoked.expect(TAG.generalizedTime), WHAT);
    const reason = revoked.optional(contextTag(0, true));
    revoked.end();
    return reason !== null && readReason(reason.content) === ON_HOLD ? 'held' : 'revoked';
  }
  demand(content.length === 0, 'malformed', `${WHAT} has a status that is not empty`);
  if (tag === contextTag(0, false)) return 'good';
  if (tag === contextTag(2, false)) return 'unknown';
  throw new AttestError('malformed', `${WHAT} has a status of tag ${tag.toString(16)}`);
}

/** A CRLReason (RFC 5280, 5.3.1). */
function readReason(content: Bytes): number {
  const reader = new DerReader(content, WHAT);
  const reason = readSmallUnsigned(reader.expect(TAG.enumerated).content, WHAT);
  reader.end();
  return reason;
}

/** Values by identifier; a critical one is refused unless it is the nonce. */
function readExtensions(content: Bytes): Map<string, Bytes> {
  const list = enterDer(content, TAG.sequence, WHAT);
  const values = new Map<string, Bytes>();
  while (!list.isAtEnd) {
    const entry = list.enter(TAG.sequence);
    const oid = readOid(entry.expect(TAG.oid).content, WHAT);
    const critical = entry.optional(TAG.boolean);
    const isCritical = critical !== null && readBoolean(critical.content, WHAT);
    const value = entry.expect(TAG.octetString).content;
    entry.end();
    const isKnown = !isCritical || oid === OCSP_NONCE;
    demand(isKnown, 'unsupported-version', `${WHAT} has a critical extension ${oid}`);
    demand(!values.has(oid), 'malformed', `${WHAT} has extension ${oid} twice`);
    values.set(oid, value);
  }
  return values;
}

function readNonce(value: Bytes): Bytes {
  const reader = new DerReader(value, WHAT);
  const { content } = reader.expect(TAG.octetString);
  reader.end();
  return content;
}
