import type { Bytes } from '../core/bytes.ts';
import type { Certificate } from '../core/certificate.ts';
import { contextTag, type DerReader, enterDer, readOid, TAG } from '../core/der.ts';
import { demand } from '../core/errors.ts';
import type { DeviceArch } from './device-report.ts';

/** DICE extensions: CompositeDeviceID (Hopper, LS10) and TcbInfo (Blackwell). */
const COMPOSITE_DEVICE_ID = '2.23.133.5.4.1';
const TCB_INFO = '2.23.133.5.4.1.1';
const SHA_384 = '2.16.840.1.101.3.4.2.2';
const FWIDS = 6;
const WHAT = "the leaf certificate's firmware digest";

/**
 * The digest of the firmware that the leaf certificate was issued to (48 bytes), or null where the
 * certificate names none. Throws AttestError 'malformed', 'trailing-bytes' or
 * 'unsupported-algorithm'.
 */
export function fwidOf(leaf: Certificate, arch: DeviceArch): Bytes | null {
  return arch === 'blackwell' ? fwidOfTcbInfo(leaf) : fwidOfDeviceId(leaf);
}

/** SEQUENCE { version, deviceID SubjectPublicKeyInfo, fwid } */
function fwidOfDeviceId(leaf: Certificate): Bytes | null {
  const extension = leaf.extension(COMPOSITE_DEVICE_ID);
  if (extension === null) return null;
  const reader = enterDer(extension, TAG.sequence, WHAT);
  reader.expect(TAG.integer);
  reader.expect(TAG.sequence);
  const fwid = readFwid(reader);
  reader.end();
  return fwid;
}

/** SEQUENCE of optional fields, of which [6] lists digests; the first is the firmware's. */
function fwidOfTcbInfo(leaf: Certificate): Bytes | null {
  const extension = leaf.extension(TCB_INFO);
  if (extension === null) return null;
  const reader = enterDer(extension, TAG.sequence, WHAT);
  while (!reader.isAtEnd) {
    if (reader.peek() === contextTag(FWIDS, true)) {
      return readFwid(reader.enter(contextTag(FWIDS, true)));
    }
    reader.next();
  }
  return null;
}

function readFwid(reader: DerReader): Bytes {
  const pair = reader.enter(TAG.sequence);
  const algorithm = readOid(pair.expect(TAG.oid).content, WHAT);
  demand(algorithm === SHA_384, 'unsupported-algorithm', `${WHAT} is made with ${algorithm}`);
  const { content } = pair.expect(TAG.octetString);
  pair.end();
  demand(content.length === 48, 'malformed', `${WHAT} has ${content.length} bytes`);
  return content;
}
