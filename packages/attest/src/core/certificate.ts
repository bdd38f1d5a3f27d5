import { type Bytes, fromBase64, fromUtf8, toHex } from './bytes.ts';
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
} from './der.ts';
import { sha256Hex } from './digest.ts';
import { demand } from './errors.ts';
import { readSignatureAlgorithm, type Signed } from './signature.ts';

const CERTIFICATE_BYTES_MAX = 16 * 1024;
const PEM_BYTES_MAX = 64 * 1024;

/** Short names of the attributes that occur in names; others go by their identifier. */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
};
const BASIC_CONSTRAINTS = '2.5.29.19';
const KEY_USAGE = '2.5.29.15';
/** May be critical: they are judged here, or cannot widen what a certificate is trusted for. */
const UNDERSTOOD = new Set([BASIC_CONSTRAINTS, KEY_USAGE, '2.5.29.37', '2.5.29.31', '2.5.29.17']);

/** An X.509 certificate (version 3) as far as attestation needs it. Immutable. */
export interface Certificate extends Signed {
  readonly der: Bytes;
  /** Of the DER, lower-case hexadecimal: the certificate's name in caches and pins. */
  readonly sha256: string;
  /** Like `CN=NVIDIA GH100 Identity, O=NVIDIA Corporation`, in the certificate's order. */
  readonly subject: string;
  readonly issuer: string;
  /** The names' DER: what is compared. */
  readonly subjectDer: Bytes;
  readonly issuerDer: Bytes;
  readonly commonName: string | null;
  /** Of the certificate, lower-case hexadecimal, without leading zeros' byte. */
  readonly serialHex: string;
  /** The subject's serialNumber attribute (2.5.4.5), where there is one. */
  readonly subjectSerial: string | null;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Bytes;
  readonly mayIssue: boolean;
  /** How many more issuers may stand below it; null: any number. */
  readonly pathLength: number | null;
  /** Critical extensions that are not understood: a chain with one is refused. */
  readonly unknownCritical: readonly string[];
  /** The extension's value (DER, without its octet string), or null. */
  extension(oid: string): Bytes | null;
}

/**
 * Strict. Throws AttestError 'malformed', 'trailing-bytes', 'too-large', 'unsupported-version' or
 * 'unsupported-algorithm'; `what` names the certificate in messages.
 */
export async function parseCertificate(der: Bytes, what: string): Promise<Certificate> {
  demand(der.length <= CERTIFICATE_BYTES_MAX, 'too-large', `${what} has ${der.length} bytes`);
  const outer = enterDer(der, TAG.sequence, what);
  const signed = outer.expect(TAG.sequence);
  const algorithm = outer.expect(TAG.sequence);
  const signature = readBitString(outer.expect(TAG.bitString).content, what);
  outer.end();

  const reader = new DerReader(signed.content, what);
  readVersion(reader, what);
  const serial = readSerial(reader.expect(TAG.integer), what);
  const inner = reader.expect(TAG.sequence);
  demand(
    toHex(inner.whole) === toHex(algorithm.whole),
    'malformed',
    `${what} names two signature algorithms`,
  );
  const issuer = reader.expect(TAG.sequence);
  const validity = reader.enter(TAG.sequence);
  const notBeforeMs = readTime(validity.next(), what);
  const notAfterMs = readTime(validity.next(), what);
  validity.end();
  const subject = reader.expect(TAG.sequence);
  const spki = reader.expect(TAG.sequence).whole;
  const extensions = readExtensions(reader, what);
  reader.end();

  const subjectNames = readName(subject, what);
  return Object.freeze({
    der,
    sha256: await sha256Hex(der),
    signedBytes: signed.whole,
    algorithm: readSignatureAlgorithm(algorithm.content, what),
    signature,
    subject: formatName(subjectNames),
    issuer: formatName(readName(issuer, what)),
    subjectDer: subject.whole,
    issuerDer: issuer.whole,
    commonName: only(subjectNames, 'CN', what),
    serialHex: serial,
    subjectSerial: only(subjectNames, 'serialNumber', what),
    notBeforeMs,
    notAfterMs,
    spki,
    ...readRights(extensions, what),
    unknownCritical: [...extensions]
      .filter(([oid, { isCritical }]) => isCritical && !UNDERSTOOD.has(oid))
      .map(([oid]) => oid),
    extension: (oid: string) => extensions.get(oid)?.value ?? null,
  });
}

interface Extension {
  readonly isCritical: boolean;
  readonly value: Bytes;
}

function readVersion(reader: DerReader, what: string): void {
  const field = reader.optional(0xa0);
  const version = field === null ? null : new DerReader(field.content, what);
  const number =
    version === null ? 0 : readSmallUnsigned(version.expect(TAG.integer).content, what);
  version?.end();
  demand(number === 2, 'unsupported-version', `${what} has X.509 version ${number + 1}, not 3`);
}

/** Some issuers write negative serial numbers, and names they are all the same. */
function readSerial(element: DerElement, what: string): string {
  const { content } = element;
  const isSerial = content.length >= 1 && content.length <= 21;
  demand(isSerial, 'malformed', `${what} has a serial number of ${content.length} bytes`);
  return toHex(content[0]! < 0x80 ? readUnsigned(content, what) : content);
}

type NamePart = readonly [attribute: string, value: string];

function readName(element: DerElement, what: string): NamePart[] {
  const parts: NamePart[] = [];
  const name = new DerReader(element.content, what);
  while (!name.isAtEnd) {
    const set = name.enter(TAG.set);
    do {
      const pair = set.enter(TAG.sequence);
      const oid = readOid(pair.expect(TAG.oid).content, what);
      const value = pair.next();
      pair.end();
      parts.push([ATTRIBUTES[oid] ?? oid, readText(value)]);
    } while (!set.isAtEnd);
  }
  return parts;
}

/**
 * For messages and serial numbers: names are compared by their DER. What is not a text of a known
 * kind is shown in hex, and what a terminal could take for a command as a question mark.
 */
function readText({ tag, content }: DerElement): string {
  const isText = tag === TAG.printableString || tag === TAG.ia5String || tag === TAG.utf8String;
  if (!isText) return `#${toHex(content)}`;
  return new TextDecoder().decode(content).replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '?');
}

function formatName(parts: readonly NamePart[]): string {
  return parts.map(([attribute, value]) => `${attribute}=${value}`).join(', ');
}

function only(parts: readonly NamePart[], attribute: string, what: string): string | null {
  const found = parts.filter(([name]) => name === attribute);
  demand(found.length <= 1, 'malformed', `${what} has ${attribute} twice in its name`);
  return found[0]?.[1] ?? null;
}

function readExtensions(reader: DerReader, what: string): Map<string, Extension> {
  const extensions = new Map<string, Extension>();
  const field = reader.optional(0xa3);
  if (field === null) return extensions;
  const list = enterDer(field.content, TAG.sequence, what);
  while (!list.isAtEnd) {
    const entry = list.enter(TAG.sequence);
    const oid = readOid(entry.expect(TAG.oid).content, what);
    const critical = entry.optional(TAG.boolean);
    const isCritical = critical !== null && readBoolean(critical.content, what);
    const value = entry.expect(TAG.octetString).content;
    entry.end();
    demand(!extensions.has(oid), 'malformed', `${what} has extension ${oid} twice`);
    extensions.set(oid, { isCritical, value });
  }
  return extensions;
}

/** Basic constraints and key usage: whether it may issue, and how deep. */
function readRights(
  extensions: ReadonlyMap<string, Extension>,
  what: string,
): { mayIssue: boolean; pathLength: number | null } {
  const usage = extensions.get(KEY_USAGE);
  const maySign = usage === undefined || mayKeySignCertificates(usage.value, what);
  const constraints = extensions.get(BASIC_CONSTRAINTS);
  if (constraints === undefined) return { mayIssue: false, pathLength: null };
  const reader = enterDer(constraints.value, TAG.sequence, what);
  const ca = reader.optional(TAG.boolean);
  const isCa = ca !== null && readBoolean(ca.content, what);
  const path = reader.optional(TAG.integer);
  const pathLength = path === null ? null : readSmallUnsigned(path.content, what);
  reader.end();
  return { mayIssue: isCa && maySign, pathLength };
}

function mayKeySignCertificates(value: Bytes, what: string): boolean {
  const reader = new DerReader(value, what);
  const { content } = reader.expect(TAG.bitString);
  reader.end();
  demand(content.length >= 1 && content[0]! <= 7, 'malformed', `${what} has a broken key usage`);
  return ((content[1] ?? 0) & 0x04) !== 0;
}

/** The certificates of a PEM file in its order; text between them may only be white space. */
export async function parsePemChain(
  pem: string,
  countMax: number,
  what: string,
): Promise<Certificate[]> {
  demand(pem.length <= PEM_BYTES_MAX, 'too-large', `${what} has ${pem.length} characters`);
  const blocks = pem.split('-----BEGIN CERTIFICATE-----');
  demand(blocks.shift()?.trim() === '', 'malformed', `${what} does not begin with a certificate`);
  demand(blocks.length > 0, 'malformed', `${what} holds no certificate`);
  demand(blocks.length <= countMax, 'too-large', `${what} holds ${blocks.length} certificates`);
  // Asynchronous all through: a block that throws must not leave another's rejection unhandled.
  return Promise.all(
    blocks.map(async (block, i) => {
      const [body, rest, ...more] = block.split('-----END CERTIFICATE-----');
      const isWhole = rest?.trim() === '' && more.length === 0;
      demand(isWhole, 'malformed', `certificate ${i} of ${what} does not end`);
      return parseOnce(body!.replace(/\s+/g, ''), `certificate ${i} of ${what}`);
    }),
  );
}

/** The certificates of a file: one in DER, or any number in PEM. Throws as their readers do. */
export async function parseCertificates(
  bytes: Bytes,
  countMax: number,
  what: string,
): Promise<Certificate[]> {
  if (bytes[0] === TAG.sequence) return [await parseCertificate(bytes, what)];
  return parsePemChain(fromUtf8(bytes, what), countMax, what);
}

const PARSED_MAX = 512;
/** By their base64: the devices of a fleet share most certificates, and come again. */
const parsed = new Map<string, Certificate>();

async function parseOnce(base64: string, what: string): Promise<Certificate> {
  const known = parsed.get(base64);
  if (known !== undefined) return known;
  const certificate = await parseCertificate(fromBase64(base64, what), what);
  if (parsed.size >= PARSED_MAX) parsed.clear();
  parsed.set(base64, certificate);
  return certificate;
}

/** For messages: the subject's common name, or all of the name, or the fingerprint. */
export function nameOf(certificate: Certificate): string {
  return certificate.commonName ?? (certificate.subject || certificate.sha256);
}
