import { type Bytes, toHex } from '../core/bytes.ts';
import { parsePemChain } from '../core/certificate.ts';
import { demand } from '../core/errors.ts';
import { type RevocationList, readRevocationList } from '../cpu/revocation-list.ts';
import { readSnpReport, type SnpReport } from '../cpu/snp-report.ts';
import { readSnpCertificateTable } from '../cpu/snp-table.ts';
import { readSnpEndorsement, type SnpEndorsement } from '../cpu/snp-verify.ts';
import { readTdxCollateral, type TdxCollateral } from '../cpu/tdx-collateral.ts';
import { readTdxQuote, type TdxQuote } from '../cpu/tdx-quote.ts';
import type { AppDocuments } from '../dstack/measured.ts';
import { type DstackReport, readDstackReport } from '../dstack/report.ts';
import type { ServerReport } from '../report/report.ts';
import { type Documents, textOf, within } from './documents.ts';
import type { Recognised } from './recognise.ts';

const SNP_CHAIN_LENGTH = 3;

/** What a CPU reports, with what vouches for it and explains it. */
export type CpuEvidence = TdxEvidence | SnpEvidence;

export interface TdxEvidence {
  readonly tee: 'tdx';
  readonly report: TdxQuote['report'];
  readonly quote: TdxQuote;
  readonly collateral: TdxCollateral | null;
  /** The quote with its event log, where dstack made it. */
  readonly dstack: DstackReport | null;
  readonly app: AppDocuments;
}

export interface SnpEvidence {
  readonly tee: 'sev-snp';
  readonly report: SnpReport;
  readonly endorsement: SnpEndorsement;
}

type Quoted = Pick<TdxEvidence, 'quote' | 'dstack'>;

/**
 * The CPU's evidence from files, dstack's report or a server's; null: there is none. `chainOf`
 * finds the certificates that were given for an SNP report. Files that cannot be read are left out
 * and kept in `documents`. Throws AttestError for a server's own quote that cannot be read, and for
 * evidence of two CPUs.
 */
export async function readCpu(
  documents: Documents,
  server: ServerReport | null,
  chainOf: (report: Recognised) => Recognised | null,
): Promise<CpuEvidence | null> {
  const found = [
    await plainQuote(documents),
    await dstackQuote(documents),
    await serverQuote(server),
  ].filter((one) => one !== null);
  const snp = [await plainSnp(documents, chainOf), await serverSnp(documents, server)].filter(
    (one) => one !== null,
  );
  const isOne = found.length + snp.length <= 1;
  demand(isOne, 'malformed', 'there is evidence of two CPUs: give that of one machine at a time');
  const [quoted] = found;
  return quoted === undefined ? (snp[0] ?? null) : withDocuments(quoted, documents);
}

async function withDocuments(quoted: Quoted, documents: Documents): Promise<TdxEvidence> {
  const collateral = await documents.readOnly('quote-collateral', (one) =>
    readTdxCollateral(textOf(one)),
  );
  const compose = await documents.readOnly('app-compose', textOf);
  return {
    tee: 'tdx',
    report: quoted.quote.report,
    ...quoted,
    collateral,
    app: { compose, gpuEvidence: documents.only('gpu-boot-record')?.bytes ?? null },
  };
}

function plainQuote(documents: Documents): Promise<Quoted | null> {
  return documents.readOnly('quote', async ({ bytes }) => {
    return { quote: await readTdxQuote(bytes), dstack: null };
  });
}

function dstackQuote(documents: Documents): Promise<Quoted | null> {
  return documents.readOnly('quote-report', (one) => quoteOfDstack(textOf(one)));
}

async function serverQuote(server: ServerReport | null): Promise<Quoted | null> {
  const quote = server?.tdxQuote ?? null;
  if (quote === null) return null;
  const { eventLog, vmConfig } = server!;
  return within({ name: "the server's report" }, async () => {
    if (eventLog === null) return { quote: await readTdxQuote(quote), dstack: null };
    return quoteOfDstack(dstackJson(quote, eventLog, vmConfig));
  });
}

/** As dstack's guest agent would have answered. */
function dstackJson(quote: Bytes, eventLog: string, vmConfig: string | null): string {
  return JSON.stringify({ quote: toHex(quote), event_log: eventLog, vm_config: vmConfig });
}

async function quoteOfDstack(json: string): Promise<Quoted> {
  const dstack = await readDstackReport(json);
  return { quote: dstack.quote, dstack };
}

async function plainSnp(
  documents: Documents,
  chainOf: (report: Recognised) => Recognised | null,
): Promise<SnpEvidence | null> {
  return documents.readOnly('snp-report', async (file) => {
    const chain = chainOf(file);
    const lacking = `${file.name} comes without AMD's chain: give the certificates (PEM) as well`;
    demand(chain !== null, 'malformed', lacking);
    const certificates = await parsePemChain(textOf(chain), SNP_CHAIN_LENGTH, chain.name);
    const list = await revocationListOf(documents);
    const report = readSnpReport(file.bytes);
    return { tee: 'sev-snp', report, endorsement: readSnpEndorsement(certificates, list) };
  });
}

function revocationListOf(documents: Documents): Promise<RevocationList | null> {
  return documents.readOnly('revocation-list', ({ bytes, name }) =>
    readRevocationList(bytes, name),
  );
}

async function serverSnp(
  documents: Documents,
  server: ServerReport | null,
): Promise<SnpEvidence | null> {
  const bytes = server?.snpReport ?? null;
  if (bytes === null) return null;
  const table = server!.snpCertificates;
  return within({ name: "the server's report" }, async () => {
    demand(table !== null, 'malformed', "it comes without AMD's certificates");
    const list = await revocationListOf(documents);
    const endorsement = readSnpEndorsement(await readSnpCertificateTable(table), list);
    return { tee: 'sev-snp', report: readSnpReport(bytes), endorsement };
  });
}
