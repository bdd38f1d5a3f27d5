import { type Bytes, fromHex, toHex } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { invariant } from '../core/invariant.ts';
import type { ReceiptSigner } from '../receipts/seal.ts';
import { type ReportBinding, type ReportStatement, reportDataOf } from './statement.ts';

/** A statement with all that binds it, ready to be quoted. */
export interface PreparedReport {
  readonly statement: ReportStatement;
  readonly binding: ReportBinding;
  /** By the receipt key; null: there is none. */
  readonly signature: string | null;
  /** What the quote must carry, 64 bytes. */
  readonly reportData: Bytes;
}

/** The evidence that a report carries beside its statement. */
export interface ReportEvidence {
  readonly modelName: string;
  readonly tdxQuote: Bytes | null;
  readonly snpReport: Bytes | null;
  readonly snpCertificates: Bytes | null;
  /** JSON text. */
  readonly eventLog: string | null;
  readonly vmConfig: string | null;
  readonly info: unknown;
  /** The very text that the statement's `gpuEvidenceSha256` is of. */
  readonly nvidiaPayload: string | null;
  /** What the statement's `encryptionKeysSha256` is of. */
  readonly encryptionKeys: Bytes | null;
  readonly configuration: Readonly<Record<string, unknown>> | null;
  readonly notes: readonly string[];
}

/** Signs a statement and works out its report data. `binding`s by address need a signer. */
export async function prepareReport(
  statement: ReportStatement,
  binding: ReportBinding,
  signer: ReceiptSigner | null,
): Promise<PreparedReport> {
  invariant((signer?.key ?? null) === statement.receiptKey, 'the receipt key signs the statement');
  const { nonce, receiptKey, tlsSpkiSha256 } = statement;
  const bytesOf = (hex: string | null) => (hex === null ? null : fromHex(hex, 'a digest'));
  const reportData = await reportDataOf({
    binding,
    statement,
    nonce: fromHex(nonce, 'the nonce'),
    signingAddress: bytesOf(receiptKey),
    tlsSpkiSha256: bytesOf(tlsSpkiSha256),
  });
  invariant(reportData !== null, `${binding}: a part of the binding is missing`);
  const signed = signer === null ? null : await signer.sign(canonicalBytes(statement));
  return { statement, binding, signature: signed === null ? null : toHex(signed), reportData };
}

/**
 * The document that `/v1/attestation/report` answers with. Outside `bridgekeeper` it has the names
 * that private-ml-sdk's and NEAR AI's clients read.
 */
export function reportDocument(prepared: PreparedReport, evidence: ReportEvidence): object {
  const { statement, binding, signature, reportData } = prepared;
  const { nonce, receiptKey, tlsSpkiSha256 } = statement;
  const hexOf = (bytes: Bytes | null) => (bytes === null ? null : toHex(bytes));
  const bindsTls = binding === 'signing-address-tls';
  const shared = {
    model_name: evidence.modelName,
    signing_address: receiptKey,
    signing_algo: 'ed25519',
    signing_public_key: receiptKey,
    request_nonce: nonce,
    intel_quote: hexOf(evidence.tdxQuote),
    nvidia_payload: evidence.nvidiaPayload,
    event_log: evidence.eventLog,
    vm_config: evidence.vmConfig,
    info: evidence.info,
    ...(bindsTls ? { tls_cert_fingerprint: tlsSpkiSha256 } : {}),
  };
  return {
    ...shared,
    bridgekeeper: {
      statement,
      signature,
      binding,
      report_data: toHex(reportData),
      snp_report: hexOf(evidence.snpReport),
      snp_certificates: hexOf(evidence.snpCertificates),
      encryption_keys: hexOf(evidence.encryptionKeys),
      configuration: evidence.configuration,
      notes: evidence.notes,
    },
    all_attestations: [shared],
  };
}
