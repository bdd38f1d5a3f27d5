import { type Check, checked, checkedIn, type Source, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, toHex } from '../core/bytes.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import { expiryOf, verifyChain } from '../core/chain.ts';
import { demand } from '../core/errors.ts';
import { appraiseGuest, type CpuContext, cpuCheck } from './guest.ts';
import { demandNotRevoked, type RevocationList } from './revocation-list.ts';
import { demandSignature, keyOf } from './signature.ts';
import {
  demandSnpKey,
  formatSnpTcb,
  readSnpKey,
  readSnpTcb,
  type SnpKey,
  type SnpTcb,
} from './snp-key.ts';
import type { SnpReport } from './snp-report.ts';

const REPORT = ['SNP report'];
const CHAIN = ['AMD certificates'];
const TCB_PARTS = ['fmc', 'bootloader', 'tee', 'snp', 'microcode'] as const;

/** Of PLATFORM_INFO and of the guest's policy. Source: AMD's "SEV-SNP firmware ABI". */
const PLATFORM_BITS = {
  smt: 0n,
  tsme: 1n,
  ecc: 2n,
  raplDisabled: 3n,
  ciphertextHiding: 4n,
  aliasCheck: 5n,
  tio: 7n,
} as const;
const POLICY_BITS = {
  smt: 16n,
  migration: 18n,
  debug: 19n,
  singleSocket: 20n,
  cxl: 21n,
  aes256xts: 22n,
  raplDisabled: 23n,
  ciphertextHiding: 24n,
  pageSwapDisabled: 25n,
} as const;

/** Certificates for a report, from the key that signed it (VCEK, VLEK) over AMD's to its root. */
export interface SnpEndorsement {
  readonly chain: readonly Certificate[];
  /** What the key's certificate states; read by `readSnpEndorsement`. */
  readonly key: SnpKey;
  /** AMD's list of what its root revoked, or null. */
  readonly revocationList: RevocationList | null;
  /** Why AMD, which was asked for the list, did not give it; null: it was not asked, or did. */
  readonly revocationProblem: string | null;
}

/** Throws AttestError 'malformed' or 'unsupported-version'; `chain` has to be of three. */
export function readSnpEndorsement(
  chain: readonly Certificate[],
  revocationList: RevocationList | null,
): SnpEndorsement {
  const isWhole = chain.length === 3;
  demand(isWhole, 'malformed', `an SNP chain has 3 certificates, this one ${chain.length}`);
  return { chain, key: readSnpKey(chain[0]!), revocationList, revocationProblem: null };
}

export interface SnpContext extends CpuContext {
  /** AMD signs no statement of what is up to date: the least that is accepted, or null. */
  readonly minimumTcb: SnpTcb | null;
}

/**
 * What a SEV-SNP report proves at `context.nowMs`: that a chip (or a cloud provider's key) with the
 * firmware that it reports signed it, and what it says of the guest.
 */
export async function appraiseSnpReport(
  report: SnpReport,
  endorsement: SnpEndorsement,
  context: SnpContext,
): Promise<Claim[]> {
  const { chain, key } = endorsement;
  const chainClaim = await appraiseChain(chain, context);
  const signature = await appraiseSignature(report, chain[0]!, chainClaim.status === 'verified');
  const identity = await appraiseIdentity(report, endorsement, signature.status === 'verified');
  const isGenuine = identity.status === 'verified';
  const source = { isGenuine, doubt: 'Nothing proves that the report is genuine' };
  return [
    chainClaim,
    await appraiseExpiry(chain, context),
    await appraiseRevocation(endorsement, context.nowMs),
    signature,
    identity,
    ...(await appraiseFirmware(report, key, source, context.minimumTcb)),
    await appraisePlatform(report, source),
    await appraiseGuestPolicy(report, source),
    await appraiseLevel(report, source),
    ...(await appraiseGuest(
      {
        tee: 'sev-snp',
        isGenuine,
        evidence: REPORT,
        isDebug: report.allowsDebug,
        migration: report.allowsMigration ? 'its policy allows a migration agent' : null,
        launch: report.measurement,
        measurements: measurementsOf(report),
        systemRegisters: ['measurement'],
        reportData: report.reportData,
      },
      context,
    )),
  ];
}

function appraiseChain(chain: readonly Certificate[], context: SnpContext): Promise<Claim> {
  const statement = 'the key that signed is certified by AMD';
  const check = cpuCheck('cpu.chain', 'vendor-signed', statement, CHAIN);
  return checked(check, () => verifyChain(chain, context.anchors.amdArk, context.chains));
}

function appraiseExpiry(chain: readonly Certificate[], context: SnpContext): Promise<Claim> {
  const check = cpuCheck('cpu.expiry', 'vendor-signed', 'no certificate is expired', CHAIN);
  return checked(check, () => {
    const expired = expiryOf(chain, context.nowMs);
    const name = expired === null ? '' : nameOf(expired);
    demand(expired === null, 'certificate-expired', `${name} is not valid at this time`);
  });
}

/** AMD revokes what its root signed; a chip's key is renewed with the firmware instead. */
async function appraiseRevocation(endorsement: SnpEndorsement, nowMs: number): Promise<Claim> {
  const { chain, revocationList, revocationProblem: problem } = endorsement;
  const statement = "AMD did not revoke its own key under the chip's";
  const check = cpuCheck('cpu.revocation', 'vendor-signed', statement, ['AMD revocation list']);
  if (revocationList === null && problem === null) {
    return unchecked(check, "AMD's revocation list is not at hand");
  }
  return checked(check, async () => {
    const unknown = `whether AMD revoked its key is not known: ${problem}`;
    demand(revocationList !== null, 'revocation-unknown', unknown);
    await demandNotRevoked(revocationList, chain[2]!, [chain[1]!]);
    const { thisUpdateMs, nextUpdateMs } = revocationList;
    const isCurrent = thisUpdateMs <= nowMs && nowMs <= (nextUpdateMs ?? Infinity);
    demand(isCurrent, 'collateral-expired', "AMD's revocation list is not of this time");
  });
}

function appraiseSignature(
  report: SnpReport,
  certificate: Certificate,
  isVouched: boolean,
): Promise<Claim> {
  const check = cpuCheck('cpu.quote', 'cpu-signed', "the report's signature holds", REPORT);
  const source = { isGenuine: isVouched, doubt: 'The key is not known to be that of a CPU' };
  return checkedIn(source, check, async () => {
    const key = await keyOf(certificate, 'P-384');
    await demandSignature(key, 'P-384', report.signature, report.signed, 'the SNP report');
  });
}

function appraiseIdentity(
  report: SnpReport,
  endorsement: SnpEndorsement,
  isSigned: boolean,
): Promise<Claim> {
  const { key, chain } = endorsement;
  const owner =
    key.hardwareId === null ? `provider=${key.providerId}` : `chip=${toHex(key.hardwareId)}`;
  const value = [`product=${key.productName}`, owner];
  const statement = `it is ${value.join(', ')}`;
  const check = cpuCheck('cpu.identity', 'cpu-signed', statement, [...REPORT, ...CHAIN], value);
  const source = { isGenuine: isSigned, doubt: 'Nothing proves that the report is genuine' };
  return checkedIn(source, check, () => demandSnpKey(report, chain[0]!, key));
}

/** What is reported, what the host can go back to, and what the guest was started under. */
function appraiseFirmware(
  report: SnpReport,
  { product }: SnpKey,
  source: Source,
  minimum: SnpTcb | null,
): Promise<Claim[]> {
  const { reportedTcb, committedTcb, launchTcb } = report;
  const said = [
    ['cpu.tcb', 'the firmware is', reportedTcb],
    ['cpu.committedTcb', 'the host cannot go back behind', committedTcb],
    ['cpu.launchTcb', 'the guest was started under', launchTcb],
  ] as const;
  return Promise.all(
    said.map(([kind, words, bytes]) => {
      const tcb = readSnpTcb(bytes, product);
      const value = TCB_PARTS.map((name) => `${name}=${tcb[name]}`);
      const statement = `${words} ${formatSnpTcb(tcb)}`;
      return appraiseTcb(
        cpuCheck(kind, 'cpu-signed', statement, REPORT, value),
        tcb,
        source,
        minimum,
      );
    }),
  );
}

function appraiseTcb(
  check: Check,
  tcb: SnpTcb,
  source: Source,
  minimum: SnpTcb | null,
): Claim | Promise<Claim> {
  if (minimum === null) {
    const voucher = source.isGenuine ? check.voucher : 'operator-asserted';
    return unchecked(
      check,
      'AMD signs no list of good firmware, and no minimum was given',
      voucher,
    );
  }
  return checkedIn(source, check, () => {
    const low = TCB_PARTS.find((name) => tcb[name] < minimum[name]);
    const message = `${check.statement}, of which ${low} is below the minimum`;
    demand(low === undefined, 'tcb-refused', message);
  });
}

/** Features of the platform that are not known here could be ways into the guest. */
function appraisePlatform(report: SnpReport, source: Source): Promise<Claim> {
  const value = flagsOf(PLATFORM_BITS, report.platformInfo);
  const statement = `the platform runs with ${value.join(', ')}`;
  const check = cpuCheck('cpu.platform', 'cpu-signed', statement, REPORT, value);
  return checkedIn(source, check, () => {
    const unknown = report.platformInfo & ~maskOf(PLATFORM_BITS);
    const message = `the platform has features of unknown meaning: ${unknown.toString(16)}`;
    demand(unknown === 0n, 'mode-refused', message);
  });
}

/** What the guest's policy allows or demands; its reader refuses bits that are not known. */
function appraiseGuestPolicy(report: SnpReport, source: Source): Promise<Claim> {
  const value = flagsOf(POLICY_BITS, report.policy);
  const statement = `the guest's policy has ${value.join(', ')}`;
  const check = cpuCheck('cpu.guestPolicy', 'cpu-signed', statement, REPORT, value);
  return checkedIn(source, check, () => {});
}

type Bits = Readonly<Record<string, bigint>>;

const flagsOf = (bits: Bits, word: bigint): string[] =>
  Object.entries(bits).map(([name, bit]) => `${name}=${(word >> bit) & 1n}`);

const maskOf = (bits: Bits): bigint =>
  Object.values(bits).reduce((mask, bit) => mask | (1n << bit), 0n);

function appraiseLevel(report: SnpReport, source: Source): Promise<Claim> {
  const statement = `software at privilege level ${report.vmpl} asked for the report`;
  const check = cpuCheck('cpu.vmpl', 'cpu-signed', statement, REPORT, report.vmpl);
  return checkedIn(source, check, () =>
    demand(report.vmpl <= 3, 'mode-refused', `there is no privilege level ${report.vmpl}`),
  );
}

function measurementsOf(report: SnpReport): Record<string, Bytes> {
  return {
    measurement: report.measurement,
    hostdata: report.hostData,
    idkeydigest: report.idKeyDigest,
    authorkeydigest: report.authorKeyDigest,
    familyid: report.familyId,
    imageid: report.imageId,
  };
}
