import { type Bytes, toHex } from '../core/bytes.ts';
import { type Certificate, parseCertificates } from '../core/certificate.ts';
import { demand } from '../core/errors.ts';
import { type CcelEvent, readCcel } from '../cpu/ccel.ts';
import { readRevocationList } from '../cpu/revocation-list.ts';
import { readSnpReport, type SnpReport } from '../cpu/snp-report.ts';
import { readSnpCertificateTable } from '../cpu/snp-table.ts';
import { isSnpCertificate, readSnpEndorsement, type SnpEndorsement } from '../cpu/snp-verify.ts';
import { readTdxCollateral, type TdxCollateral } from '../cpu/tdx-collateral.ts';
import { readTdxQuote, type TdxQuote } from '../cpu/tdx-quote.ts';
import { readVtpmEvidence, type VtpmEvidence } from '../cpu/vtpm.ts';
import { type DstackSnp, readDstackAttestation } from '../dstack/attestation.ts';
import type { AppDocuments } from '../dstack/measured.ts';
import { type DstackReport, readDstackReport } from '../dstack/report.ts';
import type { ServerReport } from '../report/report.ts';
import { type Documents, textOf, within } from './documents.ts';

const CERTIFICATES_MAX = 16;

/** What a CPU reports, with what vouches for it and explains it. */
export type CpuEvidence = TdxEvidence | SnpEvidence;

export interface TdxEvidence {
  readonly tee: 'tdx';
  readonly report: TdxQuote['report'];
  readonly quote: TdxQuote;
  readonly collateral: TdxCollateral | null;
  /** On Azure. */
  readonly vtpm: VtpmEvidence | null;
  /** What firmware logged. */
  readonly bootLog: readonly CcelEvent[] | null;
  /** The quote with its event log, where dstack made it. */
  readonly dstack: DstackReport | null;
  readonly app: AppDocuments;
}

export interface SnpEvidence {
  readonly tee: 'sev-snp';
  readonly report: SnpReport;
  readonly endorsement: SnpEndorsement;
  /** On Azure. */
  readonly vtpm: VtpmEvidence | null;
  /** What dstack says that the guest was to run. */
  readonly dstack: DstackSnp | null;
  readonly app: AppDocuments;
}

type Quoted = Pick<TdxEvidence, 'quote' | 'dstack' | 'vtpm'>;

/**
 * The CPU's evidence from files, dstack's report or a server's; null: there is none. Files that
 * cannot be read are left out and kept in `documents`. Throws AttestError for a server's own quote
 * that cannot be read, and for evidence of two CPUs.
 */
export async function readCpu(
  documents: Documents,
  server: ServerReport | null,
): Promise<CpuEvidence | null> {
  const attested = await documents.readOnly('dstack-attestation', (one) =>
    readDstackAttestation(textOf(one)),
  );
  const azure = await documents.readOnly('vtpm-evidence', (one) => readVtpmEvidence(textOf(one)));
  const found = [
    await plainQuote(documents),
    await dstackQuote(documents),
    attested?.tee === 'tdx'
      ? { quote: attested.report.quote, dstack: attested.report, vtpm: null }
      : null,
    await azureQuote(documents, azure),
    await serverQuote(server),
  ].filter((one) => one !== null);
  const snp = [
    await plainSnp(documents),
    attested?.tee === 'sev-snp' ? await dstackSnp(documents, attested) : null,
    await azureSnp(documents, azure),
    await serverSnp(documents, server),
  ].filter((one) => one !== null);
  const isOne = found.length + snp.length <= 1;
  demand(isOne, 'malformed', 'there is evidence of two CPUs: give that of one machine at a time');
  const [quoted] = found;
  return quoted === undefined ? (snp[0] ?? null) : withDocuments(quoted, documents);
}

async function withDocuments(quoted: Quoted, documents: Documents): Promise<TdxEvidence> {
  const collateral = await documents.readOnly('quote-collateral', (one) =>
    readTdxCollateral(textOf(one)),
  );
  const bootLog = await documents.readOnly('boot-log', ({ bytes }) => readCcel(bytes));
  const app = await appDocuments(documents);
  return { tee: 'tdx', report: quoted.quote.report, ...quoted, collateral, bootLog, app };
}

async function appDocuments(documents: Documents): Promise<AppDocuments> {
  const compose = await documents.readOnly('app-compose', textOf);
  return { compose, gpuEvidence: documents.only('gpu-boot-record')?.bytes ?? null };
}

function plainQuote(documents: Documents): Promise<Quoted | null> {
  return documents.readOnly('quote', async ({ bytes }) => {
    return { quote: await readTdxQuote(bytes), dstack: null, vtpm: null };
  });
}

function dstackQuote(documents: Documents): Promise<Quoted | null> {
  return documents.readOnly('quote-report', (one) => quoteOfDstack(textOf(one)));
}

async function azureQuote(documents: Documents, vtpm: VtpmEvidence | null): Promise<Quoted | null> {
  const bytes = vtpm?.tdQuote ?? null;
  if (bytes === null) return null;
  return documents.readOnly('vtpm-evidence', async () => {
    return { quote: await readTdxQuote(bytes), dstack: null, vtpm };
  });
}

async function azureSnp(
  documents: Documents,
  vtpm: VtpmEvidence | null,
): Promise<SnpEvidence | null> {
  if (vtpm?.hcl.tee !== 'sev-snp') return null;
  return documents.readOnly('vtpm-evidence', async () => {
    const { vcek, hcl } = vtpm;
    const own = vcek === null ? [] : await parseCertificates(vcek, CERTIFICATES_MAX, 'vcek');
    return { ...(await snpEvidence(documents, hcl.hardwareReport, own)), vtpm };
  });
}

async function serverQuote(server: ServerReport | null): Promise<Quoted | null> {
  const quote = server?.tdxQuote ?? null;
  if (quote === null) return null;
  const { eventLog, vmConfig } = server!;
  return within({ name: "the server's report" }, async () => {
    if (eventLog === null) return { quote: await readTdxQuote(quote), dstack: null, vtpm: null };
    return quoteOfDstack(dstackJson(quote, eventLog, vmConfig));
  });
}

/** As dstack's guest agent would have answered. */
function dstackJson(quote: Bytes, eventLog: string, vmConfig: string | null): string {
  return JSON.stringify({ quote: toHex(quote), event_log: eventLog, vm_config: vmConfig });
}

async function quoteOfDstack(json: string): Promise<Quoted> {
  const dstack = await readDstackReport(json);
  return { quote: dstack.quote, dstack, vtpm: null };
}

function plainSnp(documents: Documents): Promise<SnpEvidence | null> {
  return documents.readOnly('snp-report', ({ bytes }) => snpEvidence(documents, bytes, []));
}

/** The one document of the kind is read, so its error is one of reading. */
function dstackSnp(documents: Documents, dstack: DstackSnp): Promise<SnpEvidence | null> {
  return documents.readOnly('dstack-attestation', async () => {
    const own = await Promise.all(
      dstack.certificates.map((one, i) =>
        parseCertificates(one, CERTIFICATES_MAX, `certificate ${i}`),
      ),
    );
    return { ...(await snpEvidence(documents, dstack.report, own.flat())), dstack };
  });
}

async function serverSnp(
  documents: Documents,
  server: ServerReport | null,
): Promise<SnpEvidence | null> {
  const bytes = server?.snpReport ?? null;
  if (bytes === null) return null;
  const table = server!.snpCertificates;
  return within({ name: "the server's report" }, async () =>
    snpEvidence(documents, bytes, table === null ? [] : await readSnpCertificateTable(table)),
  );
}

/** A report with its own certificates and those that were given. */
async function snpEvidence(
  documents: Documents,
  bytes: Bytes,
  own: readonly Certificate[],
): Promise<SnpEvidence> {
  const report = readSnpReport(bytes);
  const list = await documents.readOnly('revocation-list', (one) =>
    readRevocationList(one.bytes, one.name),
  );
  const certificates = [...own, ...(await snpCertificates(documents))];
  const endorsement = readSnpEndorsement(certificates, list);
  const app = await appDocuments(documents);
  return { tee: 'sev-snp', report, endorsement, vtpm: null, dstack: null, app };
}

/** AMD's certificates among all that were given. */
async function snpCertificates(documents: Documents): Promise<Certificate[]> {
  const found: Certificate[] = [];
  for (const file of documents.of('certificates')) {
    const { bytes, name } = file;
    const read = () => parseCertificates(bytes, CERTIFICATES_MAX, name);
    found.push(...((await documents.read(file, read)) ?? []));
  }
  for (const file of documents.of('snp-certificates')) {
    const read = () => readSnpCertificateTable(file.bytes);
    found.push(...((await documents.read(file, read)) ?? []));
  }
  return found.filter(isSnpCertificate);
}
