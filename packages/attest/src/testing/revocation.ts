import type { Bytes } from '../core/bytes.ts';
import { contextTag } from '../core/der.ts';
import { der, derOctets, derOid, derSequence } from '../core/der-writer.ts';
import { algorithmOf, signedDer, type TestIssuer } from './certificates.ts';
import { derTime, derUnsigned } from './der-elements.ts';

/** What a test list says; times are `YYYYMMDDhhmmss`. */
export interface TestRevocationOptions {
  readonly issuer: TestIssuer;
  readonly serials?: readonly Uint8Array[];
  readonly thisUpdate: string;
  /** null: left out. */
  readonly nextUpdate: string | null;
}

const CRL_NUMBER = '2.5.29.20';

/** A revocation list (CRL, version 2) with a number as its only extension. */
export function makeRevocationList(options: TestRevocationOptions): Promise<Bytes> {
  const { issuer, thisUpdate, nextUpdate, serials = [] } = options;
  const entries = serials.map((serial) => derSequence(derUnsigned(serial), derTime(thisUpdate)));
  const number = derSequence(derOid(CRL_NUMBER), derOctets(derUnsigned(Uint8Array.of(1))));
  const signed = derSequence(
    derUnsigned(Uint8Array.of(1)),
    algorithmOf(issuer),
    issuer.subjectDer,
    derTime(thisUpdate),
    ...(nextUpdate === null ? [] : [derTime(nextUpdate)]),
    ...(entries.length === 0 ? [] : [derSequence(...entries)]),
    der(contextTag(0, true), derSequence(number)),
  );
  return signedDer(issuer, signed);
}
