import { canonicalBytes } from '../core/canonical.ts';
import { sha256Hex } from '../core/digest.ts';
import type { ReceiptSigner } from '../receipts/seal.ts';
import type { ReportBinding, ReportStatement } from '../report/statement.ts';
import { type PreparedReport, prepareReport, type ReportEvidence } from '../report/write.ts';
import { QUOTE_NOW_MS } from './quote-authority.ts';

const CONFIGURATION = { device: 'cpu', law: 'off' };

/** A statement of a server behind TLS, with one GPU's evidence, changed as wished. */
export async function makeStatement(
  signer: ReceiptSigner | null,
  changes: Partial<ReportStatement> = {},
): Promise<ReportStatement> {
  return {
    type: 'bridgekeeper.report.v1',
    nonce: 'ab'.repeat(32),
    issuedAt: QUOTE_NOW_MS / 1000,
    tee: 'tdx',
    tlsSpkiSha256: 'cd'.repeat(32),
    receiptKey: signer?.key ?? null,
    receiptChain: signer === null ? null : { sequence: 0, hash: null },
    gpuEvidenceSha256: null,
    software: {
      version: '0.1.0',
      node: '20.19.0',
      commit: null,
      bundleSha256: null,
      filesSha256: 'ef'.repeat(32),
    },
    model: { name: 'storyteller', sha256: '01'.repeat(32), covers: 'headers' },
    configurationSha256: await sha256Hex(canonicalBytes(CONFIGURATION)),
    observed: null,
    ...changes,
  };
}

/** GPU evidence as a report carries it, of devices that nobody made. */
export function makePayload(nonce: string): string {
  const entry = { arch: 'HOPPER', nonce, evidence: 'AA==', certificate: 'AA==' };
  return JSON.stringify({ nonce, evidence_list: [entry], arch: 'HOPPER' });
}

/**
 * A prepared report and the evidence to go with it. The quote is nothing but the report data: what
 * a CPU's appraisal makes of quotes is not tested with these.
 */
export async function makeReportParts(
  statement: ReportStatement,
  binding: ReportBinding,
  signer: ReceiptSigner | null,
  changes: Partial<ReportEvidence> = {},
): Promise<{ prepared: PreparedReport; evidence: ReportEvidence }> {
  const prepared = await prepareReport(statement, binding, signer);
  const evidence = {
    modelName: 'storyteller',
    tdxQuote: statement.tee === 'tdx' ? prepared.reportData : null,
    snpReport: statement.tee === 'sev-snp' ? prepared.reportData : null,
    snpCertificates: null,
    eventLog: null,
    vmConfig: null,
    info: null,
    nvidiaPayload: null,
    encryptionKeys: null,
    configuration: CONFIGURATION,
    notes: [],
    ...changes,
  };
  return { prepared, evidence };
}
