import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext, ReferenceSource, RevocationSource } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import { AttestError } from '../core/errors.ts';
import { appraiseCcel } from '../cpu/ccel.ts';
import {
  appraiseSnpReport,
  isWholeChain,
  readSnpEndorsement,
  type SnpEndorsement,
} from '../cpu/snp-verify.ts';
import { appraiseTdxQuote, isVerified } from '../cpu/tdx-verify.ts';
import { appraiseVtpm } from '../cpu/vtpm-verify.ts';
import { appraiseDstackReport } from '../dstack/app.ts';
import { appraiseSnpApp } from '../dstack/snp-app.ts';
import { appraiseDevices } from '../hgx/device-set.ts';
import { appraiseToken, NRAS_ISSUER } from '../nras/appraise.ts';
import type { TokenKeys } from '../nras/keys.ts';
import type { AppraisedDevice } from '../nvidia/device.ts';
import { appraiseObservedMode } from '../nvidia/observed-mode.ts';
import type { Policy } from '../policy/policy.ts';
import { appraiseServerReport } from '../report/appraise.ts';
import { expectedReportData, gpusServing, type ServerReport } from '../report/report.ts';
import { givenOcspAnswers } from '../revocation/given.ts';
import { appraiseMeasurements } from '../rim/appraise.ts';
import { appraiseReference } from '../rim/reference.ts';
import type { CollateralSource } from '../services/collateral.ts';
import { isReferenceFile } from '../services/references.ts';
import type { Evidence } from './evidence.ts';
import type { CpuEvidence, SnpEvidence } from './read-cpu.ts';
import { appraiseReceipts } from './receipts.ts';
import { appraiseRequest } from './request.ts';

/** What verification knows besides the evidence and what appraisal needs for all of it. */
export interface VerifyContext extends AppraisalContext {
  /** Fetches what a quote's vendor says of its platform, if it was not given; null: it cannot. */
  readonly collateral: CollateralSource | null;
  /** The keys that a token service signs with, from itself or its user; null: not at hand. */
  readonly tokenKeys: (() => Promise<TokenKeys>) | null;
  /**
   * Of the connection that a server's report came by: SHA-256 of its key (SubjectPublicKeyInfo),
   * null for plain HTTP. Absent: it came as a file.
   */
  readonly connectionSpkiSha256?: string | null;
  /** The 64 bytes that the CPU's evidence must carry. Absent: none were asked for. */
  readonly reportData?: Bytes;
  readonly snpMinimumTcb: Policy['snpMinimumTcb'];
}

/**
 * Appraises all that was given: each piece for itself, and what binds them. Never throws for
 * evidence that is wrong.
 */
export async function appraise(evidence: Evidence, asked: VerifyContext): Promise<Claim[]> {
  const { server } = evidence;
  const context = { ...asked, revocation: revocationOf(evidence, asked) };
  const cpu = await appraiseCpu(evidence, context);
  const own = server === null ? [] : await appraiseServer(evidence, server, cpu, context);
  const claims = [
    ...own,
    ...cpu,
    ...(await appraiseGpus(evidence, own, context)),
    ...(await appraiseTokens(evidence, context)),
    ...(await appraiseReceipts(evidence, own)),
  ];
  return [...claims, ...appraiseRequest(evidence, context)];
}

/** Answers that were given, and the source that there is. */
function revocationOf(
  { ocspAnswers }: Evidence,
  { revocation, nowMs }: VerifyContext,
): RevocationSource | null {
  return ocspAnswers.length === 0 ? revocation : givenOcspAnswers(ocspAnswers, nowMs, revocation);
}

async function appraiseCpu(evidence: Evidence, context: VerifyContext): Promise<Claim[]> {
  const { cpu } = evidence;
  if (cpu === null) return [];
  const claims = await appraiseReport(evidence, cpu, context);
  const { vtpm, report } = cpu;
  if (vtpm === null) return claims;
  const kind = cpu.tee === 'tdx' ? 'cpu.quote' : 'cpu.identity';
  const isGenuine = isVerified(claims, kind) && isVerified(claims, 'cpu.debug');
  return [...claims, ...(await appraiseVtpm(vtpm, report.reportData, isGenuine, context.nonce))];
}

async function appraiseReport(
  { server }: Evidence,
  cpu: CpuEvidence,
  context: VerifyContext,
): Promise<Claim[]> {
  const expectedReportData = context.reportData ?? (await expectedOf(server));
  const { snpMinimumTcb: minimumTcb } = context;
  const cpuContext = { ...context, expectedReportData, minimumTcb };
  const { collateral: source } = context;
  if (cpu.tee === 'sev-snp') {
    const { report, dstack, app } = cpu;
    const endorsement = await endorsementOf(cpu, source);
    const claims = await appraiseSnpReport(report, endorsement, cpuContext);
    if (dstack === null) return claims;
    const isGenuine = isVerified(claims, 'cpu.identity');
    return [...claims, ...(await appraiseSnpApp(dstack, report, app, isGenuine))];
  }
  const { quote, dstack, app, bootLog } = cpu;
  const collateral = cpu.collateral ?? (await ifThere(source && (() => source.collateral(quote))));
  const claims =
    dstack === null
      ? await appraiseTdxQuote(quote, collateral, cpuContext)
      : await appraiseDstackReport(dstack, collateral, app, cpuContext);
  if (bootLog === null) return claims;
  return [...claims, await appraiseCcel(bootLog, quote, isVerified(claims, 'cpu.quote'))];
}

/** What was given, and what AMD's service has of the rest. */
async function endorsementOf(
  { report, endorsement: given }: SnpEvidence,
  source: CollateralSource | null,
): Promise<SnpEndorsement> {
  if (source === null) return given;
  const { certificates, key, revocationList } = given;
  const fetchIt = async () => {
    const fetched = await source.snpCertificates(report, key);
    return readSnpEndorsement([...certificates, ...fetched], revocationList);
  };
  const endorsement = (isWholeChain(given) ? null : await ifThere(fetchIt)) ?? given;
  const { key: signer } = endorsement;
  if (revocationList !== null || signer === null) return endorsement;
  const { found, problem } = await seek(() => source.snpRevocationList(signer));
  return { ...endorsement, revocationList: found, revocationProblem: problem };
}

/** null: nothing is expected, or the server's report, which is refused for it, lacks a part. */
function expectedOf(server: ServerReport | null): Promise<Bytes | null> {
  return ifThere(server && (() => expectedReportData(server)));
}

async function appraiseServer(
  { cpu, gpusOfServer: gpusShown }: Evidence,
  server: ServerReport,
  cpuClaims: readonly Claim[],
  context: VerifyContext,
): Promise<Claim[]> {
  const { nonce, nowMs, connectionSpkiSha256 } = context;
  const reportData = cpu?.report.reportData ?? null;
  // A guest in debug mode says whatever its host wants it to say.
  const isGenuine = isVerified(cpuClaims, 'cpu.quote') && isVerified(cpuClaims, 'cpu.debug');
  return appraiseServerReport(server, {
    nonce,
    nowMs,
    quote: reportData && { reportData, isVerified: isGenuine },
    gpusShown,
    ...(connectionSpkiSha256 !== undefined && { connectionSpkiSha256 }),
  });
}

async function appraiseGpus(
  evidence: Evidence,
  own: readonly Claim[],
  context: VerifyContext,
): Promise<Claim[]> {
  const { devices: given, references, server } = evidence;
  const { devices, claims } =
    given.length === 0 ? { devices: [], claims: [] } : await appraiseDevices(given, context);
  const isAsked = server?.statement != null && (given.length > 0 || gpusServing(server)! > 0);
  const state = server?.statement?.observed?.confidential ?? null;
  // As for all that the server says of its GPUs: the guest's word only if the report is proven.
  const voucher = own.find(({ kind }) => kind === 'server.gpus')?.voucher ?? 'operator-asserted';
  const observed = isAsked ? await appraiseObservedMode(state, devices, voucher) : [];
  return [...claims, ...observed, ...(await appraiseReferences(devices, references, context))];
}

/** Compares devices with references; given references that no device needs are judged as well. */
async function appraiseReferences(
  devices: readonly AppraisedDevice[],
  given: Evidence['references'],
  context: VerifyContext,
): Promise<Claim[]> {
  const used = new Set<Evidence['references'][number]>();
  const givenFirst: ReferenceSource = {
    async rim(id) {
      const file = given.find(({ name }) => isReferenceFile(name, id));
      if (file === undefined) return (await context.references?.rim(id)) ?? null;
      used.add(file);
      return file.bytes;
    },
  };
  const isAny = given.length > 0 || context.references !== null;
  const references = isAny ? givenFirst : null;
  const claims = await appraiseMeasurements(devices, { ...context, references });
  let count = new Set(claims.map(({ subject }) => subject).filter((one) => one.startsWith('RIM-')))
    .size;
  for (const file of given.filter((one) => !used.has(one))) {
    const reference = { subject: `RIM-${count++}`, id: file.name, bytes: file.bytes, versions: [] };
    claims.push(...(await appraiseReference(reference, context)).claims);
  }
  return claims;
}

async function appraiseTokens(evidence: Evidence, context: VerifyContext): Promise<Claim[]> {
  const { token, tokenKeys } = evidence;
  if (token === null) return [];
  const ofService = await ifThere(context.tokenKeys);
  const expectation = {
    keys: ofService ?? tokenKeys,
    keysFrom: ofService === null ? 'evidence' : 'service',
    issuer: NRAS_ISSUER,
    deviceCount: null,
  } as const;
  return appraiseToken(token, expectation, context);
}

/**
 * What a service has to say; null where it cannot be had, for whatever reason: what rests on it is
 * not verified then.
 */
async function ifThere<T>(fetchIt: (() => Promise<T>) | null): Promise<T | null> {
  return (await seek(fetchIt)).found;
}

/** What a service has to say, or why it says nothing; neither: nobody was to be asked. */
async function seek<T>(
  fetchIt: (() => Promise<T>) | null,
): Promise<{ readonly found: T | null; readonly problem: string | null }> {
  if (fetchIt === null) return { found: null, problem: null };
  try {
    return { found: await fetchIt(), problem: null };
  } catch (error) {
    if (error instanceof AttestError) return { found: null, problem: error.message };
    throw error;
  }
}
