import { z } from 'zod';
import { type Bytes, fromBase64, fromHex, fromUtf8 } from '../core/bytes.ts';
import { type Certificate, nameOf, parsePemChain } from '../core/certificate.ts';
import { AttestError, demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { type DeviceArch, type DeviceReport, readDeviceReport } from './device-report.ts';

const LIST_CHARACTERS_MAX = 4 * 1024 * 1024;
const DEVICES_MAX = 64;
const CHAIN_LENGTH_MAX = 8;
const REPORT_CHARACTERS_MAX = 32 * 1024;
const CHAIN_CHARACTERS_MAX = 96 * 1024;
const NONCE_BYTES = 32;

/** A device's report with its certificates, read but not judged. */
export interface DeviceEvidence {
  readonly report: DeviceReport;
  /** Leaf first. */
  readonly chain: readonly Certificate[];
  /** What whoever wrote the evidence down says of it; nobody signed that. */
  readonly stated: StatedFacts;
}

export interface StatedFacts {
  readonly nonce: Bytes | null;
  readonly driverVersion: string | null;
  readonly vbiosVersion: string | null;
}

const architecture = z
  .string()
  .max(16)
  .toUpperCase()
  .pipe(z.enum(['HOPPER', 'BLACKWELL', 'LS10']));
const nonceText = z.string().regex(/^[0-9a-fA-F]{64}$/, `must be ${NONCE_BYTES} bytes in hex`);
const version = z.string().max(64);
const itemShape = z.object({
  arch: architecture.optional(),
  evidence: z.string().max(REPORT_CHARACTERS_MAX),
  certificate: z.string().max(CHAIN_CHARACTERS_MAX),
  nonce: nonceText.optional(),
  driver_version: version.optional(),
  vbios_version: version.optional(),
});
const listShape = z.array(itemShape).min(1).max(DEVICES_MAX);
const requestShape = z.object({
  nonce: nonceText,
  arch: architecture,
  evidence_list: listShape,
});
const collectedShape = z.object({
  result_code: z.literal(0, 'nvattest collected nothing').default(0),
  evidences: listShape,
});
const trusteeShape = z.object({ device_evidence_list: listShape });
type Item = z.output<typeof itemShape>;

/**
 * Reads lists of devices in each form that NVIDIA's tools and others write them in: the list that
 * the SDK serialises, what the remote service is asked with (`{nonce, arch, evidence_list}`), what
 * `nvattest collect-evidence` prints (`{result_code, evidences}`), and what Confidential Containers
 * send to Trustee (`{device_evidence_list}`). Fields that are not known are passed over: they prove
 * nothing. Throws AttestError with a reading code; the message names the device by its place.
 */
export async function readEvidenceList(json: string): Promise<DeviceEvidence[]> {
  const document = parseJson(json, LIST_CHARACTERS_MAX, 'the evidence list');
  return Promise.all(itemsOf(document).map((item, i) => readItem(item, `device ${i}`)));
}

function itemsOf(document: unknown): Item[] {
  const what = 'the evidence list';
  if (Array.isArray(document)) return readShape(listShape, document, what);
  const has = (key: string) => Object.hasOwn(Object(document), key);
  if (has('evidences')) return readShape(collectedShape, document, what).evidences;
  if (has('device_evidence_list')) {
    return readShape(trusteeShape, document, what).device_evidence_list;
  }
  const { nonce, arch, evidence_list } = readShape(requestShape, document, 'the evidence request');
  return evidence_list.map((item) => ({ nonce, arch, ...item }));
}

async function readItem(item: Item, what: string): Promise<DeviceEvidence> {
  const pem = fromUtf8(fromBase64(item.certificate, `${what}'s certificates`), what);
  const stated = {
    nonce: item.nonce === undefined ? null : fromHex(item.nonce, `${what}'s nonce`),
    driverVersion: item.driver_version ?? null,
    vbiosVersion: item.vbios_version ?? null,
  };
  const evidence = await readWithChain(encodedReport(item.evidence, what), pem, stated, what);
  const { arch } = evidence.report;
  const isAsStated = item.arch === undefined || item.arch.toLowerCase() === arch;
  demand(isAsStated, 'malformed', `${what} is stated to be ${item.arch}, its certificate: ${arch}`);
  return evidence;
}

/**
 * Base64, or hexadecimal as older attesters of Confidential Containers write it. Every report
 * begins with the bytes 11 e0, which the two spell differently.
 */
function encodedReport(text: string, what: string): Bytes {
  return /^11e0/i.test(text)
    ? fromHex(text, `${what}'s report`)
    : fromBase64(text, `${what}'s report`);
}

/**
 * Reads one report (as bytes, or as text in hexadecimal or base64) with its chain in PEM. Throws
 * AttestError with a reading code.
 */
export async function readSingleReport(
  report: Bytes | string,
  pem: string,
  what: string,
): Promise<DeviceEvidence> {
  const stated = { nonce: null, driverVersion: null, vbiosVersion: null };
  return readWithChain(reportBytes(report, what), pem, stated, what);
}

function reportBytes(report: Bytes | string, what: string): Bytes {
  if (typeof report !== 'string') return report;
  demand(
    report.length <= REPORT_CHARACTERS_MAX,
    'too-large',
    `${what}: ${report.length} characters`,
  );
  const text = report.replace(/\s+/g, '');
  const isHex = /^[0-9a-fA-F]*$/.test(text);
  return isHex ? fromHex(text, what) : fromBase64(text, what);
}

async function readWithChain(
  bytes: Bytes,
  pem: string,
  stated: StatedFacts,
  what: string,
): Promise<DeviceEvidence> {
  const chain = await parsePemChain(pem, CHAIN_LENGTH_MAX, `${what}'s certificates`);
  const leaf = chain[0]!;
  const reporter = nameOf(leaf).includes(' FSP ') ? 'fsp' : 'gsp';
  return { report: readDeviceReport(bytes, archOf(leaf, what), reporter), chain, stated };
}

/** By the chip that the leaf certificate names, like `GH100 A01 GSP FMC LF`. */
function archOf(leaf: Certificate, what: string): DeviceArch {
  const name = nameOf(leaf);
  if (name.startsWith('GH100 ')) return 'hopper';
  if (/^GB\d{3} /.test(name)) return 'blackwell';
  if (name.startsWith('LS_10 ')) return 'ls10';
  throw new AttestError('unsupported-version', `${what} is a ${name}, which is not known`);
}
