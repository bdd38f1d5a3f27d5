import { type Bytes, equalBytes, toHex } from '../core/bytes.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import {
  type DerElement,
  DerReader,
  enterDer,
  readBitString,
  readBoolean,
  readOid,
  readSmallUnsigned,
  readTime,
  readUnsigned,
  TAG,
} from '../core/der.ts';
import { AttestError, demand } from '../core/errors.ts';
import { isSignedWith, readSignatureAlgorithm, type Signed } from '../core/signature.ts';

const LIST_BYTES_MAX = 1024 * 1024;

/** A certificate revocation list (CRL, RFC 5280). Nothing of it is verified yet. */
export interface RevocationList extends Signed {
  readonly name: string;
  readonly issuerDer: Bytes;
  readonly thisUpdateMs: number;
  /** null: the issuer names no end. */
  readonly nextUpdateMs: number | null;
  /** As certificates name theirs: lower-case hexadecimal. */
  readonly revokedSerials: ReadonlySet<string>;
}

/**
 * Reads a CRL in DER, of version 2; `name` names it in messages. Throws AttestError 'malformed',
 * 'trailing-bytes', 'too-large', 'unsupported-algorithm', or 'unsupported-version' for a list with
 * critical extensions (one that does not cover all that its issuer issued).
 */
export function readRevocationList(der: Bytes, name: string): RevocationList {
  demand(der.length <= LIST_BYTES_MAX, 'too-large', `${name} has ${der.length} bytes`);
  const outer = enterDer(der, TAG.sequence, name);
  const signed = outer.expect(TAG.sequence);
  const algorithm = outer.expect(TAG.sequence);
  const signature = readBitString(outer.expect(TAG.bitString).content, name);
  outer.end();

  const reader = new DerReader(signed.content, name);
  const version = readSmallUnsigned(reader.expect(TAG.integer).content, name);
  demand(version === 1, 'unsupported-version', `${name} has version ${version + 1}, not 2`);
  const inner = reader.expect(TAG.sequence);
  const isOne = equalBytes(inner.whole, algorithm.whole);
  demand(isOne, 'malformed', `${name} names two signature algorithms`);
  const issuerDer = reader.expect(TAG.sequence).whole;
  const thisUpdateMs = readTime(reader.next(), name);
  const isTime = reader.peek() === TAG.utcTime || reader.peek() === TAG.generalizedTime;
  const nextUpdateMs = isTime ? readTime(reader.next(), name) : null;
  const revokedSerials = readSerials(reader.optional(TAG.sequence), name);
  demandNoneCritical(reader.optional(0xa0), name);
  reader.end();
  return Object.freeze({
    name,
    issuerDer,
    thisUpdateMs,
    nextUpdateMs,
    revokedSerials,
    signature,
    signedBytes: signed.whole,
    algorithm: readSignatureAlgorithm(algorithm.content, name),
  });
}

/**
 * Throws AttestError 'revocation-unknown' unless `issuer` signed the list, and
 * 'certificate-revoked' if one of the certificates, all of them that issuer's, is on it.
 */
export async function demandNotRevoked(
  list: RevocationList,
  issuer: Certificate,
  certificates: readonly Certificate[],
): Promise<void> {
  const isIssuers = issuer.mayIssue && equalBytes(list.issuerDer, issuer.subjectDer);
  const isSigned = isIssuers && (await isSignedWith(list, issuer.spki));
  const names = certificates.map(nameOf).join(', ');
  const unknown = `whether ${names} is revoked is not known: ${list.name} is not by its issuer`;
  demand(isSigned, 'revocation-unknown', unknown);
  const revoked = certificates.find(({ serialHex }) => list.revokedSerials.has(serialHex));
  const who = revoked === undefined ? '' : `${nameOf(revoked)}, serial ${revoked.serialHex}`;
  demand(revoked === undefined, 'certificate-revoked', `${who}, is revoked by ${list.name}`);
}

/** A list, who is to have signed it, and certificates of that issuer. */
export interface RevocationCheck {
  readonly list: RevocationList;
  readonly issuer: Certificate;
  readonly certificates: readonly Certificate[];
}

/**
 * Throws as `demandNotRevoked` does, of all checks the worst: a list that is good for nothing must
 * not keep another from being asked.
 */
export async function demandNoneRevoked(checks: readonly RevocationCheck[]): Promise<void> {
  const faults: AttestError[] = [];
  for (const { list, issuer, certificates } of checks) {
    try {
      await demandNotRevoked(list, issuer, certificates);
    } catch (error) {
      if (!(error instanceof AttestError)) throw error;
      faults.push(error);
    }
  }
  const worst = faults.find(({ code }) => code === 'certificate-revoked') ?? faults[0];
  if (worst !== undefined) throw worst;
}

function readSerials(list: DerElement | null, name: string): Set<string> {
  const serials = new Set<string>();
  if (list === null) return serials;
  const entries = new DerReader(list.content, name);
  while (!entries.isAtEnd) {
    const entry = entries.enter(TAG.sequence);
    serials.add(toHex(readUnsigned(entry.expect(TAG.integer).content, name)));
    readTime(entry.next(), name);
    entry.optional(TAG.sequence);
    entry.end();
  }
  return serials;
}

function demandNoneCritical(field: DerElement | null, name: string): void {
  if (field === null) return;
  const list = enterDer(field.content, TAG.sequence, name);
  while (!list.isAtEnd) {
    const entry = list.enter(TAG.sequence);
    const oid = readOid(entry.expect(TAG.oid).content, name);
    const critical = entry.optional(TAG.boolean);
    const isCritical = critical !== null && readBoolean(critical.content, name);
    demand(!isCritical, 'unsupported-version', `${name} has the critical extension ${oid}`);
    entry.expect(TAG.octetString);
    entry.end();
  }
}
