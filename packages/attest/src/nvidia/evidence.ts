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
type Item = z.output<typeof itemShape>;

/**
 * Reads the JSON that NVIDIA's SDK serialises (a list of devices) or that its service is asked with
 * (`{nonce, arch, evidence_list}`). Fields that are not known are passed over: they prove nothing.
 * Throws AttestError with a reading code; the message names the device by its place in the list.
 */
export async function readEvidenceList(json: string): Promise<DeviceEvidence[]> {
  const document = parseJson(json, LIST_CHARACTERS_MAX, 'the evidence list');
  const items = Array.isArray(document)
    ? readShape(listShape, document, 'the evidence list')
    : fromRequest(readShape(requestShape, document, 'the evidence request'));
  return Promise.all(items.map((item, i) => readItem(item, `device ${i}`)));
}

function fromRequest({ nonce, arch, evidence_list }: z.output<typeof requestShape>): Item[] {
  return evidence_list.map((item) => ({ nonce, arch, ...item }));
}

async function readItem(item: Item, what: string): Promise<DeviceEvidence> {
  const pem = fromUtf8(fromBase64(item.certificate, `${what}'s certificates`), what);
  const stated = {
    nonce: item.nonce === undefined ? null : fromHex(item.nonce, `${what}'s nonce`),
    driverVersion: item.driver_version ?? null,
    vbiosVersion: item.vbios_version ?? null,
  };
  const report = fromBase64(item.evidence, `${what}'s report`);
  const evidence = await readWithChain(report, pem, stated, what);
  const { arch } = evidence.report;
  const isAsStated = item.arch === undefined || item.arch.toLowerCase() === arch;
  demand(isAsStated, 'malformed', `${what} is stated to be ${item.arch}, its certificate: ${arch}`);
  return evidence;
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
  return { report: readDeviceReport(bytes, archOf(chain[0]!, what)), chain, stated };
}

/** By the chip that the leaf certificate names, like `GH100 A01 GSP FMC LF`. */
function archOf(leaf: Certificate, what: string): DeviceArch {
  const name = nameOf(leaf);
  if (name.startsWith('GH100 ')) return 'hopper';
  if (/^GB\d{3} /.test(name)) return 'blackwell';
  if (name.startsWith('LS_10 ')) return 'ls10';
  throw new AttestError('unsupported-version', `${what} is a ${name}, which is not known`);
}
