import { type Bytes, equalBytes, toHex } from '../core/bytes.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import { DerReader, readSmallUnsigned, TAG } from '../core/der.ts';
import { AttestError, demand } from '../core/errors.ts';
import type { SnpReport } from './snp-report.ts';

const AMD = '1.3.6.1.4.1.3704.1';
const OID = { product: `${AMD}.2`, hardwareId: `${AMD}.4`, providerId: `${AMD}.5` } as const;

/** The parts of an SNP TCB: security versions, each below 256. `fmc` is 0 before Turin. */
export interface SnpTcb {
  readonly fmc: number;
  readonly bootloader: number;
  readonly tee: number;
  readonly snp: number;
  readonly microcode: number;
}

interface Part {
  readonly oid: string;
  /** The part's byte in a TCB version. */
  readonly byte: number;
}
type Layout = Readonly<Partial<Record<keyof SnpTcb, Part>>>;

const part = (arc: number, byte: number): Part => ({ oid: `${AMD}.3.${arc}`, byte });
const MILAN: Layout = {
  bootloader: part(1, 0),
  tee: part(2, 1),
  snp: part(3, 6),
  microcode: part(8, 7),
};
const TURIN: Layout = {
  fmc: part(9, 0),
  bootloader: part(1, 1),
  tee: part(2, 2),
  snp: part(3, 3),
  microcode: part(8, 7),
};

interface Product {
  readonly layout: Layout;
  readonly family: number;
  isModel(model: number): boolean;
}
const isGenoa = (model: number): boolean => model >> 4 === 1 || model >> 4 === 0xa;
/** By the name's first word; `Milan-B0` names a stepping as well. */
const PRODUCTS: Readonly<Record<string, Product>> = {
  Milan: { layout: MILAN, family: 0x19, isModel: (model) => model <= 0x0f },
  Genoa: { layout: MILAN, family: 0x19, isModel: isGenoa },
  Bergamo: { layout: MILAN, family: 0x19, isModel: isGenoa },
  Siena: { layout: MILAN, family: 0x19, isModel: isGenoa },
  Turin: { layout: TURIN, family: 0x1a, isModel: (model) => model <= 0x11 },
};

/** What AMD states in the certificate of a key that signs reports (VCEK or VLEK). */
export interface SnpKey {
  readonly productName: string;
  readonly product: Product;
  /** The firmware that the key was derived from: only it can sign with it. */
  readonly tcb: SnpTcb;
  /** The chip, as long as its product has it; null for a cloud provider's key. */
  readonly hardwareId: Bytes | null;
  /** The cloud provider, for its key (VLEK). */
  readonly providerId: string | null;
}

/**
 * Reads AMD's extensions. Source: AMD's "VCEK certificate and KDS interface specification". Throws
 * AttestError 'malformed' or 'unsupported-version' for a product that is not known here.
 */
export function readSnpKey(certificate: Certificate): SnpKey {
  const productName = readText(certificate, OID.product);
  const product = productName === null ? undefined : PRODUCTS[productName.split('-')[0]!];
  if (productName === null || product === undefined) {
    const message = `${nameOf(certificate)} is for the product ${productName}, not known here`;
    throw new AttestError('unsupported-version', message);
  }
  const hardwareId = certificate.extension(OID.hardwareId);
  const providerId = readText(certificate, OID.providerId);
  const isOfOne = (hardwareId === null) !== (providerId === null);
  demand(isOfOne, 'malformed', 'the key is neither a chip nor a provider alone');
  const isSized = hardwareId === null || hardwareId.length === (product.layout === TURIN ? 8 : 64);
  demand(isSized, 'malformed', `the hardware id has ${hardwareId?.length} bytes`);
  const tcb = tcbOf(product.layout, ({ oid }) => readVersion(certificate, oid));
  return { productName, product, tcb, hardwareId, providerId };
}

/** The name of the product that a report is of; null: it does not say, or it is not known here. */
export function productOf({ cpuid }: SnpReport): string | null {
  if (cpuid === null) return null;
  const found = Object.entries(PRODUCTS).find(
    ([, { family, isModel }]) => cpuid.family === family && isModel(cpuid.model),
  );
  return found?.[0] ?? null;
}

/** What AMD's service names a key by: the chip, and each part of the firmware that it reports. */
export function snpKeyName(report: SnpReport, productName: string): string {
  const product = PRODUCTS[productName]!;
  const isTurin = product.layout === TURIN;
  const chip = toHex(isTurin ? report.chipId.subarray(0, 8) : report.chipId);
  const { fmc, bootloader, tee, snp, microcode } = readSnpTcb(report.reportedTcb, product);
  const parts = [
    ...(isTurin ? [`fmcSPL=${fmc}`] : []),
    `blSPL=${bootloader}`,
    `teeSPL=${tee}`,
    `snpSPL=${snp}`,
    `ucodeSPL=${microcode}`,
  ];
  return `${chip}?${parts.join('&')}`;
}

/** The parts of a report's TCB version (8 bytes), as that product lays them out. */
export function readSnpTcb(bytes: Bytes, product: Product): SnpTcb {
  return tcbOf(product.layout, ({ byte }) => bytes[byte]!);
}

/** For readers. */
export function formatSnpTcb(tcb: SnpTcb): string {
  const { fmc, bootloader, tee, snp, microcode } = tcb;
  return `fmc ${fmc}, bootloader ${bootloader}, tee ${tee}, snp ${snp}, microcode ${microcode}`;
}

/**
 * Throws AttestError 'identity-mismatch' unless the report is of the product, chip and kind of key
 * that the certificate is for, and 'binding-mismatch' unless it reports the firmware of the key.
 */
export function demandSnpKey(report: SnpReport, certificate: Certificate, key: SnpKey): void {
  const name = nameOf(certificate);
  const isKind = name === `SEV-${report.signingKey}`;
  const isOfProvider = key.providerId !== null;
  const isSame = isKind && isOfProvider === (report.signingKey === 'VLEK');
  demand(isSame, 'identity-mismatch', `${report.signingKey} signed the report, this is ${name}`);
  const { cpuid } = report;
  const { family, isModel } = key.product;
  const isProduct = cpuid === null || (cpuid.family === family && isModel(cpuid.model));
  demand(isProduct, 'identity-mismatch', `the report is not of a ${key.productName}`);
  // A host may mask the chip's id. The key, which is the chip's alone, tells it all the same.
  const isMasked = report.chipId.every((byte) => byte === 0);
  if (key.hardwareId !== null && !isMasked) {
    const padded = new Uint8Array(64);
    padded.set(key.hardwareId);
    const isChip = equalBytes(padded, report.chipId);
    demand(isChip, 'identity-mismatch', 'the report is of another chip than the key');
  }
  const [reported, certified] = [readSnpTcb(report.reportedTcb, key.product), key.tcb].map(
    formatSnpTcb,
  );
  const message = `the report is of firmware ${reported}, the key of ${certified}`;
  demand(reported === certified, 'binding-mismatch', message);
}

function tcbOf(layout: Layout, read: (part: Part) => number): SnpTcb {
  const of = (name: keyof SnpTcb): number => {
    const found = layout[name];
    return found === undefined ? 0 : read(found);
  };
  return {
    fmc: of('fmc'),
    bootloader: of('bootloader'),
    tee: of('tee'),
    snp: of('snp'),
    microcode: of('microcode'),
  };
}

function readVersion(certificate: Certificate, oid: string): number {
  const what = `extension ${oid} of ${nameOf(certificate)}`;
  const value = certificate.extension(oid);
  demand(value !== null, 'malformed', `${what} is missing`);
  const reader = new DerReader(value, what);
  const version = readSmallUnsigned(reader.expect(TAG.integer).content, what);
  reader.end();
  demand(version <= 0xff, 'malformed', `${what} is ${version}`);
  return version;
}

function readText(certificate: Certificate, oid: string): string | null {
  const value = certificate.extension(oid);
  if (value === null) return null;
  const reader = new DerReader(value, `extension ${oid} of ${nameOf(certificate)}`);
  const { content } = reader.expect(TAG.ia5String);
  reader.end();
  return String.fromCharCode(...content);
}
