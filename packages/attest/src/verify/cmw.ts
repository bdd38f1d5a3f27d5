import { type Bytes, fromBase64, toBase64, toHex, utf8 } from '../core/bytes.ts';
import { type Cbor, CborTag, readCbor } from '../core/cbor.ts';
import { AttestError, demand } from '../core/errors.ts';

/*
 * Conceptual message wrappers of RATS (draft-ietf-rats-msg-wrap): evidence and what belongs to it,
 * each as a record of its media type and its bytes, alone, behind a tag of CBOR, or in collections.
 */

const WHAT = 'the wrapper';
const DEPTH_MAX = 4;
const RECORDS_MAX = 64;
/** In JSON and CBOR: what a collection is, for those who made it. */
const COLLECTION_TYPE = '__cmwc_t';
/** Tags of CBOR that stand for content formats of CoAP (RFC 9277). */
const TAG_FIRST = 0x6374_0101;
const TAG_LAST = TAG_FIRST + 0xffff;
/** Bits of an indicator: reference values, endorsements, evidence, attestation results. */
const INDICATOR_MAX = 0x0f;

const NVIDIA = {
  collection: 'tag:nvidia.com,2026:verifier-input/profiles/base/pre-1.0.0',
  item: 'tag:nvidia.com,2026:evidence-item/v1',
  transcript: 'application/vnd.nvidia.spdm-measurement-transcript',
  chain: 'application/vnd.nvidia.pem-cert-chain',
} as const;

/** What a wrapper holds, as a file of its own. */
export interface Wrapped {
  /** Within the wrapper; empty for one record alone. */
  readonly label: string;
  /** A media type, or a content format of CoAP in words. */
  readonly type: string;
  readonly bytes: Bytes;
}

/** Whether JSON is a wrapper: a record, or a collection that says so or holds nothing else. */
export function isJsonWrapper(json: unknown): boolean {
  if (Array.isArray(json)) return isRecord(json);
  const entries = Object.entries(Object(json));
  if (Object.hasOwn(Object(json), COLLECTION_TYPE)) return true;
  return (
    entries.length > 0 && entries.every(([, value]) => Array.isArray(value) && isRecord(value))
  );
}

/** Whether bytes begin as a record of CBOR does, or as its tag, or as a collection that says so. */
export function isCborWrapper(bytes: Bytes): boolean {
  const [first, second] = bytes;
  if (first === 0x82 || first === 0x83) return second! >> 5 === 3 || second! >> 5 === 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (first === 0xda && bytes.length > 5) return isFormatTag(view.getUint32(1));
  const name = String.fromCharCode(...bytes.subarray(2, 2 + COLLECTION_TYPE.length));
  return first! >> 5 === 5 && second === 0x60 + COLLECTION_TYPE.length && name === COLLECTION_TYPE;
}

const isFormatTag = (tag: number): boolean => tag >= TAG_FIRST && tag <= TAG_LAST;

/** Type, bytes in base64url, and perhaps an indicator. */
function isRecord(list: readonly unknown[]): boolean {
  const [type, value, indicator = 1] = list;
  const isTyped = typeof type === 'number' || (typeof type === 'string' && type.includes('/'));
  const isSized = list.length === 2 || list.length === 3;
  return isSized && isTyped && typeof value === 'string' && typeof indicator === 'number';
}

/** Throws AttestError 'malformed' or 'too-large'. */
export function readJsonWrapper(json: unknown): Wrapped[] {
  return bounded(fromJson(json, '', 0));
}

/** Throws AttestError 'malformed', 'trailing-bytes' or 'too-large'. */
export function readCborWrapper(bytes: Bytes): Wrapped[] {
  return bounded(fromCbor(readCbor(bytes, WHAT), '', 0));
}

function bounded(records: Wrapped[]): Wrapped[] {
  const { length } = records;
  demand(length > 0, 'malformed', `${WHAT} is empty`);
  demand(length <= RECORDS_MAX, 'too-large', `${WHAT} has ${length} records`);
  return records;
}

function fromJson(json: unknown, label: string, depth: number): Wrapped[] {
  demand(depth <= DEPTH_MAX, 'too-large', `${WHAT} is nested too deeply`);
  const where = label === '' ? WHAT : `${label} of ${WHAT}`;
  if (Array.isArray(json)) {
    demand(isRecord(json), 'malformed', `${where} is no record`);
    const [type, text, indicator] = json as [string | number, string, number?];
    return [record(label, type, fromBase64url(text, where), indicator)];
  }
  demand(typeof json === 'object' && json !== null, 'malformed', `${where} is no record`);
  const { [COLLECTION_TYPE]: type, ...parts } = json as Readonly<Record<string, unknown>>;
  if (type === NVIDIA.item) return [nvidiaItem(parts, label, null)];
  if (type === NVIDIA.collection) return nvidiaItems(parts);
  return Object.entries(parts).flatMap(([name, part]) =>
    fromJson(part, label === '' ? name : `${label}/${name}`, depth + 1),
  );
}

/** Items by their labels, beside the nonce of all, and settings for NVIDIA's own verifier. */
function nvidiaItems({ nonce, ...parts }: Readonly<Record<string, unknown>>): Wrapped[] {
  const items = Object.entries(parts).filter(([name]) => name !== 'appraisal-settings');
  return items.map(([label, part]) => {
    const item = Object(part) as Readonly<Record<string, unknown>>;
    const isItem = item[COLLECTION_TYPE] === NVIDIA.item;
    demand(isItem, 'unsupported-version', `${label} of ${WHAT} is no item of evidence`);
    return nvidiaItem(item, label, nonce ?? null);
  });
}

/** A device's report with its chain, as a list of devices; hints are nobody's word. */
function nvidiaItem(
  { nonce: own, ...parts }: Readonly<Record<string, unknown>>,
  label: string,
  common: unknown,
): Wrapped {
  const part = (name: string): Wrapped => {
    const [one] = fromJson(parts[name], `${label}/${name}`, DEPTH_MAX);
    return one!;
  };
  const evidence = part('evidence');
  const isKnown = evidence.type === NVIDIA.transcript;
  demand(isKnown, 'unsupported-version', `${label} of ${WHAT} is of the type ${evidence.type}`);
  const certificate = part('certificate');
  const isChain = certificate.type === NVIDIA.chain;
  demand(isChain, 'unsupported-version', `${label} of ${WHAT} has a chain of ${certificate.type}`);
  const stated = own ?? common;
  const [nonce] = stated === null ? [] : fromJson(stated, `${label}/nonce`, DEPTH_MAX);
  const item = {
    evidence: toBase64(evidence.bytes),
    certificate: toBase64(certificate.bytes),
    ...(nonce === undefined ? {} : { nonce: toHex(nonce.bytes) }),
  };
  return { label, type: evidence.type, bytes: utf8(JSON.stringify([item])) };
}

function fromCbor(value: Cbor, label: string, depth: number): Wrapped[] {
  demand(depth <= DEPTH_MAX, 'too-large', `${WHAT} is nested too deeply`);
  const where = label === '' ? WHAT : `${label} of ${WHAT}`;
  if (value instanceof CborTag) {
    const { tag, value: bytes } = value;
    const isBytes = isFormatTag(tag) && bytes instanceof Uint8Array;
    demand(isBytes, 'malformed', `${where} has the tag ${tag}`);
    return [record(label, tag - TAG_FIRST, bytes)];
  }
  if (Array.isArray(value)) {
    const [type, bytes, indicator, ...more] = value as readonly Cbor[];
    const isTyped = typeof type === 'number' || typeof type === 'string';
    const isPlain = isTyped && bytes instanceof Uint8Array && more.length === 0;
    const isMarked = indicator === undefined || typeof indicator === 'number';
    demand(isPlain && isMarked, 'malformed', `${where} is no record`);
    return [record(label, type, bytes, indicator)];
  }
  if (!(value instanceof Map)) throw new AttestError('malformed', `${where} is no record`);
  const parts = [...(value as ReadonlyMap<number | string, Cbor>)];
  return parts.flatMap(([name, part]) => {
    if (name === COLLECTION_TYPE) return [];
    return fromCbor(part, label === '' ? String(name) : `${label}/${name}`, depth + 1);
  });
}

function record(label: string, type: string | number, bytes: Bytes, indicator = 1): Wrapped {
  const isIndicator = Number.isInteger(indicator) && indicator >= 1 && indicator <= INDICATOR_MAX;
  demand(isIndicator, 'malformed', `${WHAT} has the indicator ${indicator}`);
  const named = typeof type === 'number' ? `content format ${type}` : type.slice(0, 256);
  return { label, type: named, bytes };
}

/** Without padding, or with it. */
function fromBase64url(text: string, what: string): Bytes {
  const plain = text.replace(/=+$/, '').replaceAll('-', '+').replaceAll('_', '/');
  return fromBase64(plain.padEnd(Math.ceil(plain.length / 4) * 4, '='), what);
}
