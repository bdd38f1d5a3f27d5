import type { Bytes } from '../core/bytes.ts';
import type { Certificate } from '../core/certificate.ts';
import {
  type DerElement,
  type DerReader,
  enterDer,
  readOid,
  readSmallUnsigned,
  TAG,
} from '../core/der.ts';
import { demand } from '../core/errors.ts';

const SGX_EXTENSION = '1.2.840.113741.1.13.1';
const SVN_COUNT = 16;

/** What Intel states of a platform in its provisioning certification key's (PCK) certificate. */
export interface PckIdentity {
  /** Platform provisioning id, 16 bytes: names the machine. */
  readonly ppid: Bytes;
  /** Family, model, stepping, platform type and custom SKU: which TCB info applies, 6 bytes. */
  readonly fmspc: Bytes;
  readonly pceId: Bytes;
  readonly pceSvn: number;
  /** The 16 SGX TCB component numbers, each below 256. */
  readonly componentSvns: readonly number[];
}

/**
 * Reads Intel's SGX extension of a PCK certificate. Source: Intel's "SGX PCK certificate and CRL
 * profile specification". Throws AttestError 'malformed' or 'trailing-bytes'.
 */
export function readPckIdentity(certificate: Certificate): PckIdentity {
  const extension = certificate.extension(SGX_EXTENSION);
  demand(extension !== null, 'malformed', 'the PCK certificate lacks the SGX extension');
  const fields = readFields(enterDer(extension, TAG.sequence, 'SGX extension'), SGX_EXTENSION);
  const tcbField = tagged(fields.get(2), TAG.sequence, 'TCB of the SGX extension');
  const tcb = readFields(
    enterDer(tcbField.whole, TAG.sequence, 'TCB of the SGX extension'),
    `${SGX_EXTENSION}.2`,
  );
  const componentSvns = Array.from({ length: SVN_COUNT }, (_, i) =>
    numberOf(tcb.get(i + 1), 0xff, `SGX TCB component ${i + 1}`),
  );
  return {
    ppid: octetsOf(fields.get(1), 16, 'PPID'),
    fmspc: octetsOf(fields.get(4), 6, 'FMSPC'),
    pceId: octetsOf(fields.get(3), 2, 'PCE id'),
    pceSvn: numberOf(tcb.get(SVN_COUNT + 1), 0xffff, 'PCE SVN'),
    componentSvns,
  };
}

/** A sequence of pairs of an OID below `prefix` and a value, by the OID's last arc. */
function readFields(sequence: DerReader, prefix: string): Map<number, DerElement> {
  const fields = new Map<number, DerElement>();
  while (!sequence.isAtEnd) {
    const pair = sequence.enter(TAG.sequence);
    const oid = readOid(pair.expect(TAG.oid).content, 'SGX extension');
    const value = pair.next();
    pair.end();
    const below = oid.startsWith(`${prefix}.`) ? oid.slice(prefix.length + 1) : '';
    demand(/^\d+$/.test(below), 'malformed', `the SGX extension has the foreign field ${oid}`);
    demand(!fields.has(Number(below)), 'malformed', `the SGX extension has ${oid} twice`);
    fields.set(Number(below), value);
  }
  return fields;
}

function tagged(value: DerElement | undefined, tag: number, what: string): DerElement {
  demand(value !== undefined, 'malformed', `the SGX extension lacks the ${what}`);
  demand(value.tag === tag, 'malformed', `${what} has tag ${value.tag}, not ${tag}`);
  return value;
}

function octetsOf(value: DerElement | undefined, length: number, what: string): Bytes {
  const { content } = tagged(value, TAG.octetString, what);
  demand(content.length === length, 'malformed', `${what} has ${content.length} bytes`);
  return content;
}

function numberOf(value: DerElement | undefined, max: number, what: string): number {
  const number = readSmallUnsigned(tagged(value, TAG.integer, what).content, what);
  demand(number <= max, 'malformed', `${what} is ${number}, at most ${max} is possible`);
  return number;
}
