import { checked, checkedIn, type Source, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, concatBytes, equalBytes, toHex } from '../core/bytes.ts';
import { nameOf } from '../core/certificate.ts';
import { expiryOf, verifyChain } from '../core/chain.ts';
import { digest } from '../core/digest.ts';
import { AttestError, demand } from '../core/errors.ts';
import { appraiseGuest, type CpuContext, cpuCheck } from './guest.ts';
import { demandSignature, keyOf, pointKey } from './signature.ts';
import type { TdxCollateral } from './tdx-collateral.ts';
import type { TdReport, TdxQuote } from './tdx-quote.ts';
import { appraiseCollateral } from './tdx-statements.ts';
import { assessTdxTcb, demandQeIdentity, type TcbAssessment } from './tdx-tcb.ts';

const INTEL_QE_VENDOR = '939a7233f79c4ca9940a0db3957f0607';
const QE_DEBUG = 0x02;
const QUOTE = ['TDX quote'];
const WITH_COLLATERAL = ['TDX quote', 'Intel collateral'];
const UNVOUCHED = "Neither chain nor Intel's collateral vouches for the enclave";

/** Bits of a TD's attributes. Source: Intel's "TDX module ABI", as in Linux' shared/tdx.h. */
const ATTRIBUTE = { septVeDisable: 1n << 28n, migratable: 1n << 29n } as const;
/** ICSSD, LASS, SEPT_VE_DISABLE, MIGRATABLE, PKS, KL, TPA, PERFMON; the lowest byte: debugging. */
const ATTRIBUTES_KNOWN = [16n, 27n, 28n, 29n, 30n, 31n, 62n, 63n].reduce(
  (bits, bit) => bits | (1n << bit),
  0xffn,
);

/**
 * Bits of XFAM that a TDX module lets a guest have (x87, SSE, AVX, AVX-512, PT, PKRU, CET, user
 * interrupts, LBR, AMX), and those that every guest has. Source: Intel's "TDX module ABI", XFAM.
 */
const XFAM = { known: 0x6dbe7n, fixed: 0x3n } as const;

/**
 * What a TDX quote proves at `context.nowMs`: that it is genuine (chain, quoting enclave, quote),
 * how the platform stands (TCB status as the value of `cpu.tcb`; all but UpToDate is refused, which
 * a policy may tolerate) and what the CPU says of the guest. Without collateral nothing is verified
 * but the chain: anyone's enclave could have signed.
 */
export async function appraiseTdxQuote(
  quote: TdxQuote,
  collateral: TdxCollateral | null,
  context: CpuContext,
): Promise<Claim[]> {
  const chain = await appraiseChain(quote, context);
  const statements = await appraiseCollateral(quote, collateral, context);
  const isVouched = isVerified([chain], 'cpu.chain') && isVerified(statements, 'cpu.collateral');
  const qe = await appraiseQe(quote, collateral, isVouched);
  const signature = await appraiseSignature(quote, qe.status === 'verified');
  const isGenuine = signature.status === 'verified';
  const { report } = quote;
  return [
    chain,
    await appraiseExpiry(quote, context),
    ...statements,
    qe,
    signature,
    ...(await appraisePlatform(quote, collateral, isGenuine)),
    await appraiseAttributes(report, isGenuine),
    await appraiseExtendedFeatures(report, isGenuine),
    await appraiseSecurityVersions(report, isGenuine),
    ...(await appraiseGuest(
      {
        tee: 'tdx',
        isGenuine,
        evidence: QUOTE,
        isDebug: report.attributes[0] !== 0,
        migration: migrationOf(report),
        launch: report.mrTd,
        measurements: measurementsOf(report),
        systemRegisters: ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2'],
        reportData: report.reportData,
      },
      context,
    )),
  ];
}

/** Whether a claim of that kind is there and verified. */
export function isVerified(claims: readonly Claim[], kind: string): boolean {
  return claims.some((one) => one.kind === kind && one.status === 'verified');
}

function appraiseChain(quote: TdxQuote, context: CpuContext): Promise<Claim> {
  const statement = "the platform's key is certified by Intel";
  const check = cpuCheck('cpu.chain', 'vendor-signed', statement, QUOTE);
  return checked(check, () =>
    verifyChain(quote.pckChain, context.anchors.intelSgx, context.chains),
  );
}

function appraiseExpiry(quote: TdxQuote, context: CpuContext): Promise<Claim> {
  const check = cpuCheck('cpu.expiry', 'vendor-signed', 'no certificate is expired', QUOTE);
  return checked(check, () => {
    const expired = expiryOf(quote.pckChain, context.nowMs);
    const name = expired === null ? '' : nameOf(expired);
    demand(expired === null, 'certificate-expired', `${name} is not valid at this time`);
  });
}

/** That Intel's quoting enclave holds the attestation key, as the platform's PCK certifies. */
async function appraiseQe(
  quote: TdxQuote,
  collateral: TdxCollateral | null,
  isVouched: boolean,
): Promise<Claim> {
  const { qeReport } = quote;
  const statement = "the attestation key is that of Intel's quoting enclave";
  const check = cpuCheck('cpu.qe', 'vendor-signed', statement, WITH_COLLATERAL, qeReport.isvSvn);
  return checkedIn({ isGenuine: isVouched, doubt: UNVOUCHED }, check, async () => {
    const vendor = toHex(quote.qeVendorId);
    const isIntels = vendor === INTEL_QE_VENDOR;
    demand(isIntels, 'identity-mismatch', `the quoting enclave is of the vendor ${vendor}`);
    const pckKey = await keyOf(quote.pckChain[0]!, 'P-256');
    const signature = quote.qeReportSignature;
    await demandSignature(pckKey, 'P-256', signature, qeReport.signed, 'the QE report');
    const bound = await digest('SHA-256', concatBytes(quote.attestationKey, quote.qeAuthData));
    const isBound = equalBytes(qeReport.reportData, concatBytes(bound, new Uint8Array(32)));
    demand(isBound, 'binding-mismatch', 'the QE report is for another attestation key');
    const isDebug = (qeReport.attributes[0]! & QE_DEBUG) !== 0;
    demand(!isDebug, 'debug-enabled', 'the quoting enclave runs in debug mode');
    if (collateral !== null) demandQeIdentity(qeReport, collateral.qeIdentity.content);
  });
}

function appraiseSignature(quote: TdxQuote, isQeVerified: boolean): Promise<Claim> {
  const check = cpuCheck('cpu.quote', 'cpu-signed', "the quote's signature holds", QUOTE);
  const document = { isGenuine: isQeVerified, doubt: 'The key is not known to be that of a CPU' };
  return checkedIn(document, check, async () => {
    const key = await pointKey('P-256', quote.attestationKey, 'the attestation key');
    await demandSignature(key, 'P-256', quote.signature, quote.signed, 'the quote');
  });
}

/** Which machine it is, and how Intel says its firmware stands. */
async function appraisePlatform(
  quote: TdxQuote,
  collateral: TdxCollateral | null,
  isGenuine: boolean,
): Promise<Claim[]> {
  const names = [`ppid=${toHex(quote.pck.ppid)}`, `fmspc=${toHex(quote.pck.fmspc)}`];
  const statement = `the platform is ${names.join(', ')}`;
  const identity = cpuCheck('cpu.identity', 'vendor-signed', statement, QUOTE, names);
  const document = { isGenuine, doubt: 'Nothing proves that the quote is genuine' };
  const assessed = collateral === null ? null : tryAssess(quote, collateral);
  return [
    await checkedIn(document, identity, () => {}),
    ...(await appraiseTcb(assessed, document)),
  ];
}

async function appraiseTcb(
  assessed: TcbAssessment | AttestError | null,
  document: Source,
): Promise<Claim[]> {
  const about = 'vendor-signed';
  if (assessed === null || assessed instanceof AttestError) {
    const check = cpuCheck('cpu.tcb', about, "Intel's status is known", WITH_COLLATERAL, null);
    if (assessed === null) return [unchecked(check, "Intel's collateral is not at hand")];
    const refuse = (): never => {
      throw assessed;
    };
    return [await checkedIn(document, check, refuse)];
  }
  const { status, advisories } = assessed;
  const says = `Intel says of the platform: ${status}`;
  const tcb = cpuCheck('cpu.tcb', about, says, WITH_COLLATERAL, status);
  const lists = `Intel lists ${advisories.length} advisories for this level`;
  const advised = cpuCheck('cpu.advisories', about, lists, WITH_COLLATERAL, advisories);
  return [
    await checkedIn(document, tcb, () => demand(status === 'UpToDate', 'tcb-refused', says)),
    await checkedIn(document, advised, () => {}),
  ];
}

function tryAssess(quote: TdxQuote, collateral: TdxCollateral): TcbAssessment | AttestError {
  const [info, identity] = [collateral.tcbInfo.content, collateral.qeIdentity.content];
  try {
    return assessTdxTcb(info, identity, quote.pck, quote.report, quote.qeReport);
  } catch (error) {
    if (error instanceof AttestError) return error;
    throw error;
  }
}

/** Bits that are not known here could be ways into the guest: they are refused. */
function appraiseAttributes(report: TdReport, isGenuine: boolean): Promise<Claim> {
  const value = toHex(report.attributes);
  const statement = `the guest's attributes are ${value}`;
  const check = cpuCheck('cpu.attributes', 'cpu-signed', statement, QUOTE, value);
  const document = { isGenuine, doubt: 'Nothing proves that the quote is genuine' };
  return checkedIn(document, check, () => {
    const bits = bitsOf(report.attributes);
    const isKnown = (bits & ~ATTRIBUTES_KNOWN) === 0n;
    demand(isKnown, 'mode-refused', `the guest's attributes ${value} have unknown bits`);
    // Without it a host can make pages vanish under the guest and watch how its software copes.
    const isQuiet = (bits & ATTRIBUTE.septVeDisable) !== 0n;
    demand(isQuiet, 'mode-refused', 'the host can inject faults (SEPT_VE_DISABLE is off)');
  });
}

/** What of the CPU's extended state the guest may use. */
function appraiseExtendedFeatures(report: TdReport, isGenuine: boolean): Promise<Claim> {
  const value = toHex(report.xfam);
  const statement = `the guest's extended features (XFAM) are ${value}`;
  const check = cpuCheck('cpu.xfam', 'cpu-signed', statement, QUOTE, value);
  const document = { isGenuine, doubt: 'Nothing proves that the quote is genuine' };
  return checkedIn(document, check, () => {
    const bits = bitsOf(report.xfam);
    const isKnown = (bits & ~XFAM.known) === 0n;
    demand(isKnown, 'mode-refused', `the guest's extended features ${value} have unknown bits`);
    const isWhole = (bits & XFAM.fixed) === XFAM.fixed;
    demand(isWhole, 'mode-refused', `the guest's extended features ${value} lack x87 or SSE`);
  });
}

/** The security versions of the TDX module and of what it rests on, but those that are 0. */
function appraiseSecurityVersions(report: TdReport, isGenuine: boolean): Promise<Claim> {
  const value = [...report.teeTcbSvn]
    .map((svn, i) => ({ svn, name: `svn${i}` }))
    .filter(({ svn }) => svn > 0)
    .map(({ svn, name }) => `${name}=${svn}`);
  const statement = `the TDX module has the security versions ${value.join(', ')}`;
  const check = cpuCheck('cpu.teeTcbSvn', 'cpu-signed', statement, QUOTE, value);
  const document = { isGenuine, doubt: 'Nothing proves that the quote is genuine' };
  return checkedIn(document, check, () => {});
}

function migrationOf(report: TdReport): string | null {
  if ((bitsOf(report.attributes) & ATTRIBUTE.migratable) !== 0n) return 'the MIGRATABLE bit is set';
  const isServed = report.mrServiceTd?.some((byte) => byte !== 0) ?? false;
  return isServed ? 'a service TD is bound to it' : null;
}

function bitsOf(attributes: Bytes): bigint {
  return attributes.reduceRight((bits, byte) => (bits << 8n) | BigInt(byte), 0n);
}

function measurementsOf(report: TdReport): Record<string, Bytes> {
  const [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmrs;
  const { mrTd: mrtd, mrSeam: mrseam, mrConfigId: mrconfigid, mrOwner: mrowner } = report;
  const mrownerconfig = report.mrOwnerConfig;
  return { mrtd, rtmr0, rtmr1, rtmr2, rtmr3, mrseam, mrconfigid, mrowner, mrownerconfig };
}
