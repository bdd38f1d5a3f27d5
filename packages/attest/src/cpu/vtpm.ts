import { z } from 'zod';
import { ByteReader, type Bytes, fromBase64, fromHex, fromUtf8, toHex } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';

const DOCUMENT_CHARACTERS_MAX = 256 * 1024;
const HCL_BYTES_MAX = 64 * 1024;
const HCL_MAGIC = 'HCLA';
/** SNP's report as it is; TDX's is shorter, and filled up. */
const HARDWARE_REPORT_BYTES = 1184;
const HCL_VERSIONS = [1, 2];
const HARDWARE = { 2: 'sev-snp', 4: 'tdx' } as const;
const HASHES = { 1: 'SHA-256', 2: 'SHA-384', 3: 'SHA-512' } as const;
const REPORT_DATA_BYTES = 64;
const AK_NAME = 'HCLAkPub';
const AK_BITS_MIN = 2048;
const QUOTE_BYTES_MAX = 4096;
const TPM_GENERATED = 0xff54_4347;
const ATTEST_QUOTE = 0x8018;
const SHA256 = 0x0b;
const PCRS_MAX = 24;
const PCR_BYTES = 32;

/** What Azure's paravisor (HCL) keeps of a guest's report, and of the vTPM that it runs. */
export interface HclReport {
  readonly tee: 'sev-snp' | 'tdx';
  /** 1184 bytes: an SNP report, or a TD report and filling. */
  readonly hardwareReport: Bytes;
  /** The 64 bytes that the CPU's evidence must carry: the digest of `keys` and more, filled up. */
  readonly reportData: Bytes;
  /** The vTPM's attestation key, RSA: modulus and exponent in base64url. */
  readonly attestationKey: { readonly n: string; readonly e: string };
}

/** A TPM's quote. */
export interface TpmQuote {
  /** TPMS_ATTEST, which is signed. */
  readonly message: Bytes;
  /** RSASSA-PKCS1-v1_5 with SHA-256. */
  readonly signature: Bytes;
  /** What it was asked with. */
  readonly nonce: Bytes;
  /** The registers it is over, in order. */
  readonly selected: readonly number[];
  /** SHA-256 of these registers' values. */
  readonly pcrDigest: Bytes;
  /** The values, of 32 bytes, as they were written down: they prove what `pcrDigest` does. */
  readonly values: readonly Bytes[];
}

/** A guest's evidence on Azure. */
export interface VtpmEvidence {
  readonly hcl: HclReport;
  readonly quote: TpmQuote;
  /** Of TDX: the quote, as Azure has it made. */
  readonly tdQuote: Bytes | null;
  /** Of SNP: the key's certificate in DER or PEM. */
  readonly vcek: Bytes | null;
}

const octets = z
  .array(z.int().min(0).max(255))
  .max(HCL_BYTES_MAX)
  .transform((list) => new Uint8Array(list));
const base64url = z
  .string()
  .regex(/^[A-Za-z0-9_-]*={0,2}$/)
  .transform((text) => fromBase64url(text));
const hex = z
  .string()
  .regex(/^([0-9a-fA-F]{2})*$/)
  .transform((text) => fromHex(text, 'the evidence'));
const pem = z.string().transform((text) => new TextEncoder().encode(text));
const either = z.union([octets, hex]);
const tpmQuote = z.strictObject({
  message: either,
  signature: either,
  pcrs: z.array(either).max(PCRS_MAX),
});
/** Of version 0 with numbers for bytes, of later ones in text. */
const documentSchema = z.strictObject({
  version: z.union([z.enum(['1', '2']), z.literal([1, 2])]).optional(),
  tpm_quote: tpmQuote.optional(),
  quote: tpmQuote.optional(),
  hcl_report: z.union([octets, base64url]).optional(),
  report: octets.optional(),
  td_quote: z.union([octets, base64url]).optional(),
  vcek: z.union([base64url, pem]).optional(),
});

/**
 * Reads a guest's evidence on Azure as Confidential Containers write it: `{tpm_quote, hcl_report,
 * vcek}` of SEV-SNP, `{tpm_quote, hcl_report, td_quote}` of TDX, and the form without a version.
 * Throws AttestError with a reading code.
 */
export async function readVtpmEvidence(json: string): Promise<VtpmEvidence> {
  const what = "Azure's evidence";
  const document = parseJson(json, DOCUMENT_CHARACTERS_MAX, what);
  const read = readShape(documentSchema, document, what);
  const { tpm_quote: quote = read.quote, hcl_report: report = read.report } = read;
  const isWhole = quote !== undefined && report !== undefined;
  demand(isWhole, 'malformed', `${what} lacks a TPM quote or a report`);
  const hcl = await readHclReport(report);
  const { td_quote: tdQuote = null, vcek = null } = read;
  const isQuoted = (hcl.tee === 'tdx') === (tdQuote !== null);
  demand(isQuoted, 'malformed', `${what} is of ${hcl.tee}, and has a quote of TDX or lacks it`);
  return { hcl, quote: readTpmQuote(quote.message, quote.signature, quote.pcrs), tdQuote, vcek };
}

const runtimeSchema = z.object({
  keys: z
    .array(z.object({ kid: z.string(), kty: z.string(), n: z.string(), e: z.string() }))
    .max(8),
});

/**
 * Reads what the paravisor keeps in NV index 0x01400001: a header, the hardware's report, and the
 * runtime data whose digest is in it. Source: Microsoft's "vTPM attestation report" of Azure's
 * confidential VMs. Throws AttestError with a reading code.
 */
export async function readHclReport(bytes: Bytes): Promise<HclReport> {
  const what = 'the HCL report';
  demand(bytes.length <= HCL_BYTES_MAX, 'too-large', `${what} has ${bytes.length} bytes`);
  const reader = new ByteReader(bytes, what);
  const magic = String.fromCharCode(...reader.bytes(HCL_MAGIC.length));
  demand(magic === HCL_MAGIC, 'malformed', `${what} does not begin with ${HCL_MAGIC}`);
  const version = reader.u32le();
  const isKnown = HCL_VERSIONS.includes(version);
  demand(isKnown, 'unsupported-version', `${what} has version ${version}`);
  // Sizes are of what follows; what asked for it, how it went, and reserved bytes are of no use.
  reader.bytes(24);
  const hardwareReport = reader.bytes(HARDWARE_REPORT_BYTES);
  const size = reader.u32le();
  const dataVersion = reader.u32le();
  demand(dataVersion === 1, 'unsupported-version', `${what} has data of version ${dataVersion}`);
  const [kind, hashKind] = [reader.u32le(), reader.u32le()];
  const tee = HARDWARE[kind as keyof typeof HARDWARE];
  const hash = HASHES[hashKind as keyof typeof HASHES];
  demand(tee !== undefined, 'unsupported-version', `${what} is of hardware ${kind}`);
  demand(hash !== undefined, 'unsupported-algorithm', `${what} is digested with ${hashKind}`);
  const data = reader.bytes(reader.u32le());
  const isSized = size === data.length + 20;
  demand(isSized, 'malformed', `${what} states ${size} bytes of data, it has ${data.length}`);
  const isFilled = reader.bytes(reader.left).every((byte) => byte === 0);
  demand(isFilled, 'malformed', `${what} has something behind its data`);
  const reportData = new Uint8Array(REPORT_DATA_BYTES);
  reportData.set(await digest(hash, data));
  return { tee, hardwareReport, reportData, attestationKey: keyIn(data) };
}

function keyIn(data: Bytes): HclReport['attestationKey'] {
  const what = "the HCL report's data";
  const json = parseJson(fromUtf8(data, what), DOCUMENT_CHARACTERS_MAX, what);
  const { keys } = readShape(runtimeSchema, json, what);
  const [key, more] = keys.filter(({ kid }) => kid === AK_NAME);
  demand(key !== undefined && more === undefined, 'malformed', `${what} has no one ${AK_NAME}`);
  const { kty, n, e } = key;
  const bits = 8 * fromBase64url(n).length;
  const isFit = kty === 'RSA' && bits >= AK_BITS_MIN;
  demand(isFit, 'unsupported-algorithm', `${AK_NAME} is a key of ${kty} with ${bits} bits`);
  return { n, e };
}

/**
 * Reads a TPM's quote (TPMS_ATTEST) with the registers that are shown for it. Source: TCG's "TPM
 * 2.0 library", part 2. Throws AttestError with a reading code.
 */
export function readTpmQuote(message: Bytes, signature: Bytes, values: readonly Bytes[]): TpmQuote {
  const what = 'the TPM quote';
  demand(message.length <= QUOTE_BYTES_MAX, 'too-large', `${what} has ${message.length} bytes`);
  const reader = new ByteReader(message, what);
  const isGenerated = reader.u32be() === TPM_GENERATED && reader.u16be() === ATTEST_QUOTE;
  demand(isGenerated, 'malformed', `${what} is none that a TPM made`);
  // The signer's name.
  reader.bytes(reader.u16be());
  const nonce = reader.bytes(reader.u16be());
  // Clock, counts of resets and restarts, whether the clock is safe, the firmware's version.
  reader.bytes(8 + 4 + 4 + 1 + 8);
  const banks = reader.u32be();
  demand(banks === 1, 'malformed', `${what} is over ${banks} banks of registers, not one`);
  const algorithm = reader.u16be();
  const isSha256 = algorithm === SHA256;
  demand(isSha256, 'unsupported-algorithm', `${what} is over registers of algorithm ${algorithm}`);
  const selected = bitsIn(reader.bytes(reader.u8()));
  const pcrDigest = reader.bytes(reader.u16be());
  reader.end();
  const isBounded = selected.every((index) => index < PCRS_MAX);
  demand(isBounded, 'malformed', `${what} is over registers beyond ${PCRS_MAX}`);
  const isEach =
    values.length === selected.length && values.every(({ length }) => length === PCR_BYTES);
  const shown = `${what} is over ${selected.length} registers, ${values.length} are shown`;
  demand(isEach, 'malformed', shown);
  return { message, signature, nonce, selected, pcrDigest, values };
}

function bitsIn(mask: Bytes): number[] {
  return [...mask].flatMap((byte, i) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte >> bit) & 1).map((bit) => 8 * i + bit),
  );
}

/** Padding may be there or not, as in base64url it may. */
function fromBase64url(text: string): Bytes {
  const plain = text.replace(/=+$/, '').replaceAll('-', '+').replaceAll('_', '/');
  return fromBase64(plain.padEnd(Math.ceil(plain.length / 4) * 4, '='), 'the evidence');
}

/** The values of a quote by register, like `pcr4=…`. */
export function pcrValues({ selected, values }: TpmQuote): string[] {
  return selected.map((index, i) => `pcr${index}=${toHex(values[i]!)}`);
}
