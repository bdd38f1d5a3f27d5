import { ByteReader, type Bytes, fromUtf8, toBase64 } from '../core/bytes.ts';
import { type Certificate, parsePemChain } from '../core/certificate.ts';
import { demand } from '../core/errors.ts';
import { type PckIdentity, readPckIdentity } from './pck.ts';

const QUOTE_BYTES_MAX = 64 * 1024;
const PCK_CHAIN_LENGTH = 3;
const TEE_SGX = 0;
const TEE_TDX = 0x81;
const ECDSA_P256 = 2;
const CERTIFICATION = { pckChain: 5, qeReport: 6 } as const;
/** Version 5 names its body: a TD report of TDX 1.0 or of 1.5. */
const BODY = { tdx10: { type: 2, bytes: 584 }, tdx15: { type: 3, bytes: 648 } } as const;

/** What the CPU reports of a trust domain (TD). Registers are 48 bytes long. */
export interface TdReport {
  readonly tdxVersion: '1.0' | '1.5';
  /** SVNs of the TDX module (its ISV SVN and version come first) and of what it rests on. */
  readonly teeTcbSvn: Bytes;
  readonly mrSeam: Bytes;
  readonly mrSignerSeam: Bytes;
  readonly seamAttributes: Bytes;
  /** 8 bytes, little endian bits. */
  readonly attributes: Bytes;
  readonly xfam: Bytes;
  readonly mrTd: Bytes;
  readonly mrConfigId: Bytes;
  readonly mrOwner: Bytes;
  readonly mrOwnerConfig: Bytes;
  readonly rtmrs: readonly [Bytes, Bytes, Bytes, Bytes];
  /** 64 bytes that the guest chose. */
  readonly reportData: Bytes;
  /** TDX 1.5 alone: the service TD (for migration) that is bound to this one. */
  readonly mrServiceTd: Bytes | null;
}

/** The report of the quoting enclave (QE), an SGX enclave of Intel's that signs for the CPU. */
export interface QeReport {
  /** The 384 bytes that the PCK signed. */
  readonly signed: Bytes;
  readonly miscSelect: Bytes;
  readonly attributes: Bytes;
  readonly mrSigner: Bytes;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly reportData: Bytes;
}

export interface TdxQuote {
  readonly version: 4 | 5;
  readonly qeVendorId: Bytes;
  readonly report: TdReport;
  /** Header and body, which the attestation key signed. */
  readonly signed: Bytes;
  readonly signature: Bytes;
  /** P-256 point, x and y. */
  readonly attestationKey: Bytes;
  readonly qeReport: QeReport;
  readonly qeReportSignature: Bytes;
  readonly qeAuthData: Bytes;
  /** From the PCK certificate to the root that the quote names. */
  readonly pckChain: readonly Certificate[];
  readonly pck: PckIdentity;
}

/**
 * Reads a TDX quote of version 4 or 5. Source: Intel's "TDX DCAP quoting library API", appendix 3.
 * Throws AttestError 'malformed', 'trailing-bytes', 'too-large', 'unsupported-version' (another
 * TEE, version or kind of certification) or 'unsupported-algorithm'.
 */
export async function readTdxQuote(bytes: Bytes): Promise<TdxQuote> {
  demand(bytes.length <= QUOTE_BYTES_MAX, 'too-large', `the quote has ${bytes.length} bytes`);
  const reader = new ByteReader(bytes, 'quote');
  const { version, qeVendorId } = readHeader(reader);
  const report = readBody(reader, version);
  const signed = bytes.subarray(0, reader.offset);
  const auth = new ByteReader(reader.bytes(reader.u32le()), 'signature data of the quote');
  skipPadding(reader);
  const signature = auth.bytes(64);
  const attestationKey = auth.bytes(64);
  const certification = readCertification(auth, CERTIFICATION.qeReport);
  auth.end();
  const qe = new ByteReader(certification, 'QE certification of the quote');
  const qeReport = readQeReport(qe.bytes(384));
  const qeReportSignature = qe.bytes(64);
  const qeAuthData = qe.bytes(qe.u16le());
  const pem = readCertification(qe, CERTIFICATION.pckChain);
  qe.end();
  const pckChain = await readPckChain(pem);
  const pck = readPckIdentity(pckChain[0]!);
  return {
    version,
    qeVendorId,
    report,
    signed,
    signature,
    attestationKey,
    qeReport,
    qeReportSignature,
    qeAuthData,
    pckChain,
    pck,
  };
}

/** Quoting services fill the buffer that they were given with zeros. */
function skipPadding(reader: ByteReader): void {
  const isZero = reader.bytes(reader.left).every((byte) => byte === 0);
  demand(isZero, 'trailing-bytes', 'the quote is followed by bytes that are not zero');
}

function readHeader(reader: ByteReader): { version: 4 | 5; qeVendorId: Bytes } {
  const version = reader.u16le();
  const isKnown = version === 4 || version === 5;
  demand(isKnown, 'unsupported-version', `the quote has version ${version}, TDX has 4 and 5`);
  const keyType = reader.u16le();
  const isP256 = keyType === ECDSA_P256;
  demand(isP256, 'unsupported-algorithm', `the quote's key is of type ${keyType}, not P-256`);
  const tee = reader.u32le();
  demand(tee !== TEE_SGX, 'unsupported-version', "it is an SGX enclave's quote, not a TD's");
  demand(tee === TEE_TDX, 'unsupported-version', `the quote is of TEE type ${tee}, not TDX`);
  // SVNs of the QE and the PCE, which version 4 leaves reserved; the certificates tell the true.
  reader.bytes(4);
  const qeVendorId = reader.bytes(16);
  reader.bytes(20);
  return { version, qeVendorId };
}

function readBody(reader: ByteReader, version: 4 | 5): TdReport {
  if (version === 4) return readTdReport(reader, '1.0');
  const type = reader.u16le();
  const size = reader.u32le();
  const isKnown = type === BODY.tdx10.type || type === BODY.tdx15.type;
  demand(isKnown, 'unsupported-version', `the quote's body is of type ${type}, TDX has 2 and 3`);
  const body = type === BODY.tdx10.type ? BODY.tdx10 : BODY.tdx15;
  demand(size === body.bytes, 'malformed', `the quote's body has ${size} bytes, not ${body.bytes}`);
  return readTdReport(reader, body === BODY.tdx10 ? '1.0' : '1.5');
}

function readTdReport(reader: ByteReader, tdxVersion: '1.0' | '1.5'): TdReport {
  const register = (): Bytes => reader.bytes(48);
  const base = {
    tdxVersion,
    teeTcbSvn: reader.bytes(16),
    mrSeam: register(),
    mrSignerSeam: register(),
    seamAttributes: reader.bytes(8),
    attributes: reader.bytes(8),
    xfam: reader.bytes(8),
    mrTd: register(),
    mrConfigId: register(),
    mrOwner: register(),
    mrOwnerConfig: register(),
    rtmrs: [register(), register(), register(), register()] as const,
    reportData: reader.bytes(64),
  };
  if (tdxVersion === '1.0') return { ...base, mrServiceTd: null };
  // The TCB that the platform has meanwhile: a TD keeps the one that it was launched with.
  reader.bytes(16);
  return { ...base, mrServiceTd: register() };
}

function readQeReport(signed: Bytes): QeReport {
  const reader = new ByteReader(signed, 'QE report');
  reader.bytes(16);
  const miscSelect = reader.bytes(4);
  reader.bytes(28);
  const attributes = reader.bytes(16);
  reader.bytes(32 + 32);
  const mrSigner = reader.bytes(32);
  reader.bytes(96);
  const isvProdId = reader.u16le();
  const isvSvn = reader.u16le();
  reader.bytes(60);
  const reportData = reader.bytes(64);
  reader.end();
  return { signed, miscSelect, attributes, mrSigner, isvProdId, isvSvn, reportData };
}

function readCertification(reader: ByteReader, expected: number): Bytes {
  const type = reader.u16le();
  const message = `the quote is certified by type ${type}, only ${expected} is known here`;
  demand(type === expected, 'unsupported-version', message);
  return reader.bytes(reader.u32le());
}

/** Intel ends the text with a NUL in some releases. Any other spelling than its own is refused. */
async function readPckChain(pem: Bytes): Promise<Certificate[]> {
  const text = fromUtf8(pem, 'PCK chain').replace(/\n?\0?$/, '\n');
  const chain = await parsePemChain(text, PCK_CHAIN_LENGTH, 'PCK chain');
  const isWhole = chain.length === PCK_CHAIN_LENGTH;
  demand(isWhole, 'malformed', `the PCK chain has ${chain.length} certificates`);
  const spelled = chain.map((one) => pemOf(one.der)).join('');
  demand(spelled === text, 'malformed', 'the PCK chain is not in the usual form of PEM');
  return chain;
}

function pemOf(der: Bytes): string {
  const lines = toBase64(der).replace(/.{1,64}/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}-----END CERTIFICATE-----\n`;
}
