import { z } from 'zod';
import { type Bytes, fromHex } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import { hexOf, parseJson, readShape } from '../core/json-shape.ts';
import {
  REPORT_BINDINGS,
  type ReportBinding,
  type ReportStatement,
  reportDataOf,
  statementSchema,
} from './statement.ts';

const REPORT_CHARACTERS_MAX = 16 * 1024 * 1024;
const QUOTE_BYTES_MAX = 64 * 1024;

const hexText = (bytesMax: number) =>
  z
    .string()
    .max(2 * bytesMax + 2)
    .nullish();

/** Our own part of a report, beside what other services' clients look for. */
const ownSchema = z.strictObject({
  statement: statementSchema,
  /** By the receipt key, over the statement's canonical JSON; null: there is no receipt key. */
  signature: hexOf(64).nullable(),
  binding: z.enum(REPORT_BINDINGS),
  /** What was asked to be quoted. */
  report_data: hexOf(64),
  /** An AMD SEV-SNP report and the certificates that the host gave with it. */
  snp_report: z
    .string()
    .max(2 * QUOTE_BYTES_MAX)
    .nullable(),
  snp_certificates: z
    .string()
    .max(2 * QUOTE_BYTES_MAX)
    .nullable(),
  /** Keys that requests can be encrypted to, as `application/ohttp-keys`. */
  encryption_keys: z
    .string()
    .max(2 * QUOTE_BYTES_MAX)
    .nullish(),
  /** What `configurationSha256` is of. */
  configuration: z.record(z.string(), z.json()).nullable(),
  /** What is missing here and why, for readers. */
  notes: z.array(z.string().max(1000)).max(100),
});

const reportSchema = z.looseObject({
  signing_address: z.string().max(130).nullish(),
  signing_algo: z.enum(['ed25519', 'ecdsa']).nullish(),
  request_nonce: z.string().max(130).nullish(),
  intel_quote: hexText(QUOTE_BYTES_MAX),
  nvidia_payload: z.string().max(REPORT_CHARACTERS_MAX).nullish(),
  event_log: z.union([z.string(), z.array(z.json()), z.record(z.string(), z.json())]).nullish(),
  vm_config: z
    .string()
    .max(64 * 1024)
    .nullish(),
  info: z.json().nullish(),
  tls_cert_fingerprint: z.string().max(130).nullish(),
  bridgekeeper: ownSchema.optional(),
});

const payloadSchema = z.looseObject({
  nonce: z.string().max(130),
  evidence_list: z.array(z.json()).max(1024),
});

type OwnPart = z.output<typeof ownSchema>;

/** A server's report as it was read; nothing of it is verified. */
export interface ServerReport {
  /** null: another service's report, which has none. */
  readonly statement: ReportStatement | null;
  readonly signature: string | null;
  readonly binding: ReportBinding;
  readonly nonce: Bytes | null;
  /** Raw Ed25519 (32 bytes) or an Ethereum address (20 bytes). */
  readonly signingAddress: Bytes | null;
  readonly signingAlgorithm: 'ed25519' | 'ecdsa' | null;
  readonly tlsSpkiSha256: Bytes | null;
  readonly tdxQuote: Bytes | null;
  readonly snpReport: Bytes | null;
  readonly snpCertificates: Bytes | null;
  /** JSON text: dstack's log of what was measured. */
  readonly eventLog: string | null;
  /** JSON text: what dstack's quote says of the virtual machine. */
  readonly vmConfig: string | null;
  /** dstack's description of the application, as it stands. */
  readonly info: unknown;
  /** The text that `gpuEvidenceSha256` is of. */
  readonly nvidiaPayload: string | null;
  readonly gpuNonce: Bytes | null;
  /** Entries in the JSON that NVIDIA's SDK serialises. */
  readonly gpuEvidence: readonly unknown[];
  /** What the statement's `encryptionKeysSha256` is of. */
  readonly encryptionKeys: Bytes | null;
  readonly configuration: Readonly<Record<string, unknown>> | null;
  readonly notes: readonly string[];
}

/**
 * Reads what `/v1/attestation/report` answers: ours, or that of a service with private-ml-sdk's
 * shape. Throws AttestError.
 */
export function readServerReport(text: string, what = 'the report'): ServerReport {
  const json = parseJson(text, REPORT_CHARACTERS_MAX, what);
  const outer = readShape(reportSchema, json, what);
  const own = outer.bridgekeeper;
  const isForeign = own === undefined && outer.intel_quote == null && outer.nvidia_payload == null;
  demand(!isForeign, 'malformed', `${what} holds no evidence that is known here`);
  const payload = readPayload(outer.nvidia_payload ?? null, what);
  const nonce = bytesOf(outer.request_nonce, `${what}'s nonce`);
  demand(nonce === null || nonce.length === 32, 'malformed', `${what}'s nonce is not 32 bytes`);
  const tls = bytesOf(outer.tls_cert_fingerprint, `${what}'s TLS fingerprint`);
  return {
    ...ownPart(own),
    ...(own === undefined && tls !== null ? { binding: 'signing-address-tls' as const } : {}),
    nonce,
    signingAddress: bytesOf(outer.signing_address, `${what}'s signing address`),
    signingAlgorithm: outer.signing_algo ?? null,
    tlsSpkiSha256: tls ?? bytesOf(own?.statement.tlsSpkiSha256, `${what}'s TLS key`),
    tdxQuote: bytesOf(outer.intel_quote, `${what}'s TDX quote`),
    eventLog: jsonText(outer.event_log),
    vmConfig: outer.vm_config ?? null,
    info: outer.info ?? null,
    nvidiaPayload: outer.nvidia_payload ?? null,
    ...payload,
  };
}

function ownPart(own: OwnPart | undefined) {
  return {
    statement: own?.statement ?? null,
    signature: own?.signature ?? null,
    binding: own?.binding ?? ('signing-address' as const),
    snpReport: bytesOf(own?.snp_report, 'the SEV-SNP report'),
    snpCertificates: bytesOf(own?.snp_certificates, 'the SEV-SNP certificates'),
    encryptionKeys: bytesOf(own?.encryption_keys, 'the encryption keys'),
    configuration: own?.configuration ?? null,
    notes: own?.notes ?? [],
  };
}

function readPayload(text: string | null, what: string) {
  if (text === null) return { gpuNonce: null, gpuEvidence: [] };
  const name = `${what}'s nvidia_payload`;
  const payload = readShape(payloadSchema, parseJson(text, REPORT_CHARACTERS_MAX, name), name);
  return {
    gpuNonce: bytesOf(payload.nonce, `${name}'s nonce`),
    gpuEvidence: payload.evidence_list,
  };
}

/** Hexadecimal, with or without the 0x that some services write; null for what is absent. */
function bytesOf(hex: string | null | undefined, what: string): Bytes | null {
  if (hex == null || hex === '') return null;
  return fromHex(hex.replace(/^0x/, ''), what);
}

function jsonText(value: unknown): string | null {
  if (value == null || value === '') return null;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/**
 * The 64 bytes that the report's quote must carry. Throws AttestError 'malformed' where the report
 * lacks a part of what is bound.
 */
export async function expectedReportData(report: ServerReport): Promise<Bytes> {
  const { nonce } = report;
  const data = nonce === null ? null : await reportDataOf({ ...report, nonce });
  if (data !== null) return data;
  throw new AttestError('malformed', `the report lacks a part of its binding (${report.binding})`);
}

/**
 * How many GPUs a server says that it serves on, or that its driver shows; null: a report of
 * another service, which does not say. Nobody signed it but the software itself.
 */
export function gpusServing({ statement, configuration }: ServerReport): number | null {
  if (statement === null) return null;
  const served = configuration?.device === 'cuda' ? 1 : 0;
  return Math.max(served, statement.observed?.gpus.length ?? 0);
}
