import type { Bytes } from '../core/bytes.ts';
import { toHex } from '../core/bytes.ts';
import { type Cbor, type CborMap, CborTag, readCbor } from '../core/cbor.ts';
import { demand } from '../core/errors.ts';

const WHAT = 'the CoRIM';
const CORIM_BYTES_MAX = 4 * 1024 * 1024;
const TAGS_MAX = 1024;
/** `corim`, unsigned `corim-map`, `signed-corim`, COSE_Sign1, CoMID. */
const TAG = { corim: 500, unsigned: 501, signed: 502, coseSign1: 18, comid: 506 } as const;
const KEY = { id: 0, tags: 1, profile: 3, triples: 4, referenceTriples: 0 } as const;

/** A CoRIM's contents, as far as they are told here; whether its signature holds is not. */
export interface Corim {
  readonly id: string;
  readonly isSigned: boolean;
  readonly profile: string | null;
  /** Tags of reference measurements (CoMID), and what they hold. */
  readonly comids: number;
  readonly referenceValues: number;
}

/** Whether bytes begin as a CoRIM does. */
export function isCorim(bytes: Bytes): boolean {
  const [first, high, low] = bytes;
  const tag = 256 * high! + low!;
  const isTagged = first === 0xd9 && tag >= TAG.corim && tag <= TAG.signed;
  return isTagged || (first === 0xc0 + TAG.coseSign1 && high === 0x84);
}

/**
 * Reads a manifest of reference values, signed (COSE_Sign1) or not. Source: draft-ietf-rats-corim.
 * Throws AttestError 'malformed', 'trailing-bytes', 'too-large' or 'unsupported-version'.
 */
export function readCorim(bytes: Bytes): Corim {
  demand(bytes.length <= CORIM_BYTES_MAX, 'too-large', `${WHAT} has ${bytes.length} bytes`);
  let value = readCbor(bytes, WHAT);
  let isSigned = false;
  while (value instanceof CborTag && value.tag !== TAG.unsigned) {
    const { tag, value: inner } = value;
    const isSignature = tag === TAG.coseSign1;
    const isKnown = isSignature || tag === TAG.corim || tag === TAG.signed;
    demand(isKnown && !isSigned, 'unsupported-version', `${WHAT} has the tag ${tag}`);
    value = isSignature ? readCbor(payloadOf(inner), WHAT) : inner;
    isSigned = isSignature;
  }
  const map = mapIn(value instanceof CborTag ? value.value : value);
  const tags = listIn(map.get(KEY.tags));
  demand(tags.length <= TAGS_MAX, 'too-large', `${WHAT} has ${tags.length} tags`);
  const comids = tags.flatMap((tag) => {
    if (!(tag instanceof CborTag) || tag.tag !== TAG.comid) return [];
    const { value: encoded } = tag;
    demand(encoded instanceof Uint8Array, 'malformed', `${WHAT} has a CoMID that is no bytes`);
    return [mapIn(readCbor(encoded, 'a CoMID'))];
  });
  const counts = comids.map((comid) => {
    const triples = comid.get(KEY.triples);
    const references = triples === undefined ? undefined : mapIn(triples).get(KEY.referenceTriples);
    return references === undefined ? 0 : listIn(references).length;
  });
  const profile = map.get(KEY.profile);
  return {
    id: textOf(map.get(KEY.id)),
    isSigned,
    profile: profile === undefined ? null : textOf(profile),
    comids: comids.length,
    referenceValues: counts.reduce((sum, count) => sum + count, 0),
  };
}

/** Protected header, unprotected header, payload, signature. */
function payloadOf(value: Cbor): Bytes {
  const [protectedHeader, unprotectedHeader, payload, signature, ...more] = listIn(value);
  const isWhole =
    protectedHeader instanceof Uint8Array &&
    unprotectedHeader instanceof Map &&
    signature instanceof Uint8Array &&
    more.length === 0;
  const isThere = isWhole && payload instanceof Uint8Array;
  demand(isThere, 'malformed', `${WHAT} is no COSE_Sign1 with its payload`);
  return payload;
}

function mapIn(value: Cbor): CborMap {
  demand(value instanceof Map, 'malformed', `${WHAT} lacks a map where it has to have one`);
  return value;
}

function listIn(value: Cbor | undefined): readonly Cbor[] {
  demand(Array.isArray(value), 'malformed', `${WHAT} lacks a list where it has to have one`);
  return value as readonly Cbor[];
}

/** Text, a URI, an identifier or a UUID, for readers. */
function textOf(value: Cbor | undefined): string {
  const plain = value instanceof CborTag ? value.value : value;
  const isBytes = plain instanceof Uint8Array;
  demand(isBytes || typeof plain === 'string', 'malformed', `${WHAT} has no name`);
  return (isBytes ? toHex(plain) : plain).slice(0, 256);
}
