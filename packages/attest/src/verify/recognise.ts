import { type Bytes, fromBase64, fromHex, fromUtf8 } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { parseJson } from '../core/json-shape.ts';
import { isBootLog } from '../cpu/ccel.ts';
import { isSnpCertificateTable } from '../cpu/snp-table.ts';
import { isCorim } from '../rim/corim.ts';
import { isCborWrapper, isJsonWrapper } from './cmw.ts';
import { isComposite } from './composite.ts';

/** Something that was given to be verified. `name` is for messages and for pairing. */
export interface EvidenceFile {
  readonly name: string;
  readonly bytes: Bytes;
}

/** The kinds of documents that are told apart by their content. */
export type DocumentKind =
  /** JSON: a list of devices with their reports and chains; `readEvidenceList` knows the forms. */
  | 'device-list'
  /** One SPDM request and response: binary, hexadecimal or base64. */
  | 'device-report'
  /** PEM certificates, leaf first, or one certificate in DER. */
  | 'certificates'
  /** A signed SWID XML document of reference measurements. */
  | 'rim'
  /** A TDX quote: binary, hexadecimal or base64. */
  | 'quote'
  /** JSON: what Intel's service says about a platform. */
  | 'quote-collateral'
  /** What firmware measured while a guest booted: the CCEL table's log. */
  | 'boot-log'
  /** JSON: a quote with its event log, as dstack serves it. */
  | 'quote-report'
  /** JSON: what dstack 0.6 answers to Attest, for any CPU. */
  | 'dstack-attestation'
  /** JSON: the record of dstack's GPU check at boot. */
  | 'gpu-boot-record'
  /** JSON: what an app of dstack's consists of. */
  | 'app-compose'
  /** JSON: a guest's evidence on Azure, with a quote of its vTPM. */
  | 'vtpm-evidence'
  /** An SEV-SNP attestation report. */
  | 'snp-report'
  /** The certificates that a host hands out with SNP reports: AMD's table. */
  | 'snp-certificates'
  /** What AMD revoked: a CRL in DER. */
  | 'revocation-list'
  /** What an OCSP responder said of certificates, in DER. */
  | 'ocsp-answer'
  /** JSON: a detached EAT of NVIDIA's remote attestation service. */
  | 'token'
  /** JSON: the public keys that sign tokens. */
  | 'key-set'
  /** A manifest of reference values in CBOR. */
  | 'corim'
  /** A conceptual message wrapper of RATS, in JSON or CBOR: it holds others of these. */
  | 'wrapper'
  /** JSON: what Confidential Containers send to Trustee, of a CPU and of devices. */
  | 'composite'
  /** JSON: the report of a Bridgekeeper server, or of one with a compatible report. */
  | 'server-report'
  /** JSON: a receipt for one answer of a server. */
  | 'receipt'
  /** JSON: a piece of the chain of receipts. */
  | 'receipt-links';

export interface Recognised {
  readonly kind: DocumentKind;
  readonly name: string;
  /** What was encoded as hexadecimal or base64 is decoded. */
  readonly bytes: Bytes;
  /** Of the JSON kinds. */
  readonly json?: unknown;
}

const FILE_BYTES_MAX = 8 * 1024 * 1024;
const SNP_REPORT_BYTES = 1184;
const QUOTE_HEADER_BYTES = 48;
/** TDX's, little-endian, behind version (2) and key type (2). */
const TEE_TDX = 0x81;

/**
 * Tells what a file is, by its content alone; null: none of the kinds. Throws AttestError
 * 'too-large' or 'malformed' (JSON that is none).
 */
export function recognise({ name, bytes }: EvidenceFile): Recognised | null {
  demand(
    bytes.length <= FILE_BYTES_MAX,
    'too-large',
    `${name} has ${bytes.length} bytes, at most ${FILE_BYTES_MAX} are read`,
  );
  const binary = binaryKind(bytes);
  if (binary !== null) return { kind: binary, name, bytes };
  if (bytes.includes(0)) return null;
  const text = textOf(bytes, name);
  if (text === null) return null;
  if (text.startsWith('{') || text.startsWith('[')) return recogniseJson(name, bytes, text);
  if (text.startsWith('<')) return { kind: 'rim', name, bytes };
  if (text.startsWith('-----BEGIN CERTIFICATE-----')) return { kind: 'certificates', name, bytes };
  const decoded = decodeText(text, name);
  const kind = decoded === null ? null : binaryKind(decoded);
  return kind === null ? null : { kind, name, bytes: decoded! };
}

function textOf(bytes: Bytes, name: string): string | null {
  try {
    return fromUtf8(bytes, name).trim();
  } catch {
    return null;
  }
}

function binaryKind(bytes: Bytes): DocumentKind | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < QUOTE_HEADER_BYTES) return null;
  if (bytes[0] === 0x11 && bytes[1] === 0xe0) return 'device-report';
  if (isBootLog(bytes)) return 'boot-log';
  if (isCorim(bytes)) return 'corim';
  if (isCertificate(bytes)) return 'certificates';
  if (isSnpCertificateTable(bytes)) return 'snp-certificates';
  if (isRevocationList(bytes)) return 'revocation-list';
  if (isOcspAnswer(bytes)) return 'ocsp-answer';
  const version = view.getUint16(0, true);
  const keyType = view.getUint16(2, true);
  if (bytes.length === SNP_REPORT_BYTES && version >= 2 && version <= 5 && keyType === 0) {
    return 'snp-report';
  }
  // SGX's version 3 as well: its reader says why it is refused.
  if (isCborWrapper(bytes)) return 'wrapper';
  const isQuote = version >= 3 && version <= 5 && (keyType === 2 || keyType === 3);
  const tee = view.getUint32(4, true);
  return isQuote && (tee === TEE_TDX || tee === 0) ? 'quote' : null;
}

/** Two nested sequences of DER, then the version in a tag of its own. */
function isCertificate(bytes: Bytes): boolean {
  return beginsNested(bytes, [0xa0, 0x03, 0x02, 0x01, 0x02, 0x02]);
}

/** Two nested sequences of DER, then version 2, where certificates have a tag of their own. */
function isRevocationList(bytes: Bytes): boolean {
  return beginsNested(bytes, [0x02, 0x01, 0x01, 0x30]);
}

function beginsNested(bytes: Bytes, content: readonly number[]): boolean {
  const outer = contentOf(bytes, 0);
  const inner = outer === null ? null : contentOf(bytes, outer);
  return inner !== null && content.every((byte, i) => byte === bytes[inner + i]);
}

/** A sequence of DER that begins with the status "successful", an enumeration. */
function isOcspAnswer(bytes: Bytes): boolean {
  const outer = contentOf(bytes, 0);
  return outer !== null && [0x0a, 0x01, 0x00, 0xa0].every((byte, i) => byte === bytes[outer + i]);
}

/** Where the content of a DER sequence at `at` begins; null: there is none. */
function contentOf(bytes: Bytes, at: number): number | null {
  const length = bytes[at + 1];
  if (bytes[at] !== 0x30 || length === undefined) return null;
  return at + 2 + (length < 0x80 ? 0 : length - 0x80);
}

function decodeText(text: string, name: string): Bytes | null {
  const dense = text.replace(/\s+/g, '');
  const hex = dense.replace(/^0x/i, '');
  if (/^[0-9a-fA-F]*$/.test(hex)) return hex.length % 2 === 0 ? fromHex(hex, name) : null;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(dense)) return null;
  try {
    return fromBase64(dense, name);
  } catch {
    return null;
  }
}

/** Keys that a JSON object of a kind has all of; the first kind that fits is it. */
const OBJECT_KINDS: readonly (readonly [DocumentKind, readonly string[]])[] = [
  ['quote-collateral', ['tcb_info', 'qe_identity', 'pck_crl']],
  ['gpu-boot-record', ['detached_eat', 'result_code']],
  ['quote-report', ['quote', 'event_log']],
  ['dstack-attestation', ['attestation']],
  ['vtpm-evidence', ['hcl_report', 'tpm_quote']],
  ['vtpm-evidence', ['report', 'quote', 'vcek']],
  ['app-compose', ['manifest_version', 'runner']],
  ['server-report', ['bridgekeeper']],
  ['server-report', ['intel_quote']],
  ['server-report', ['nvidia_payload']],
  ['device-list', ['evidence_list']],
  ['device-list', ['evidences']],
  ['device-list', ['device_evidence_list']],
  ['receipt', ['receipt', 'signature']],
  ['receipt-links', ['first', 'digests']],
  ['key-set', ['keys']],
];

function recogniseJson(name: string, bytes: Bytes, text: string): Recognised | null {
  const json = parseJson(text, FILE_BYTES_MAX, name);
  const plain = Array.isArray(json) ? listKind(json) : objectKind(json as object);
  const kind = plain ?? (isJsonWrapper(json) ? 'wrapper' : null);
  return kind === null ? null : { kind, name, bytes, json };
}

function objectKind(json: object): DocumentKind | null {
  const has = (key: string) => Object.hasOwn(json, key);
  // Where the CPU is not one of Intel's, dstack leaves the quote empty.
  const isQuoted = (json as { readonly quote?: unknown }).quote !== '';
  if (has('attestation') && !isQuoted) return 'dstack-attestation';
  if (isComposite(json)) return 'composite';
  return OBJECT_KINDS.find(([, keys]) => keys.every(has))?.[0] ?? null;
}

function listKind(list: readonly unknown[]): DocumentKind | null {
  const [first] = list;
  if (Array.isArray(first)) return first[0] === 'JWT' ? 'token' : null;
  if (typeof first !== 'object' || first === null) return null;
  return Object.hasOwn(first, 'evidence') ? 'device-list' : null;
}
