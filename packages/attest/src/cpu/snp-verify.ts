import { type Check, checked, checkedIn, type Source, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, equalBytes, toHex } from '../core/bytes.ts';
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
const KEYLESS = "AMD's certificate of the key that signed is not at hand";
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

/** Certificates for a report, as far as they are at hand. */
export interface SnpEndorsement {
  /** In any order; some may have no place in the chain. */
  readonly certificates: readonly Certificate[];
  /** From the key that signed the report (VCEK, VLEK) over AMD's to its root; it may end early. */
  readonly chain: readonly Certificate[];
  /** What the key's certificate states; null: it is not at hand. */
  readonly key: SnpKey | null;
  /** AMD's list of what its root revoked, or null. */
  readonly revocationList: RevocationList | null;
  /** Why AMD, which was asked for the list, did not give it; null: it was not asked, or did. */
  readonly revocationProblem: string | null;
}

const CHAIN_LENGTH = 3;
const KEY_NAMES: readonly (string | null)[] = ['SEV-VCEK', 'SEV-VLEK'];

/** Whether it can be part of an endorsement: AMD's names begin with SEV- or ARK-. */
export function isSnpCertificate({ commonName }: Certificate): boolean {
  return /^(SEV|ARK)-/.test(commonName ?? '');
}

export const isWholeChain = ({ chain }: SnpEndorsement): boolean => chain.length === CHAIN_LENGTH;

/**
 * Finds the chain in certificates of any order; of two that bear one issuer's name, the first is
 * it. Throws AttestError 'malformed' (two keys) or 'unsupported-version'.
 */
export function readSnpEndorsement(
  certificates: readonly Certificate[],
  revocationList: RevocationList | null,
): SnpEndorsement {
  const keys = certificates.filter(({ commonName }) => KEY_NAMES.includes(commonName));
  const [key, other] = [keys[0], keys.find(({ sha256 }) => sha256 !== keys[0]!.sha256)];
  const message = 'there are certificates of two keys: give that of the one that signed';
  demand(other === undefined, 'malformed', message);
  if (key === undefined)
    return { certificates, chain: [], key: null, revocationList, revocationProblem: null };
  const chain = [key];
  while (chain.length < CHAIN_LENGTH) {
    const { issuerDer } = chain.at(-1)!;
    const issuer = certificates.find(({ subjectDer }) => equalBytes(subjectDer, issuerDer));
    if (issuer === undefined) break;
    chain.push(issuer);
  }
  return { certificates, chain, key: readSnpKey(key), revocationList, revocationProblem: null };
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
  const { key } = endorsement;
  const chainClaim = await appraiseChain(endorsement, context);
  const isVouched = chainClaim.status === 'verified';
  const signature = await appraiseSignature(report, endorsement, isVouched);
  const identity = await appraiseIdentity(report, endorsement, signature.status === 'verified');
  const isGenuine = identity.status === 'verified';
  const source = { isGenuine, doubt: 'Nothing proves that the report is genuine' };
  return [
    chainClaim,
    await appraiseExpiry(endorsement, context),
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

function appraiseChain(
  endorsement: SnpEndorsement,
  { anchors, chains }: SnpContext,
): Claim | Promise<Claim> {
  const { chain, key } = endorsement;
  const statement = 'the key that signed is certified by AMD';
  const check = cpuCheck('cpu.chain', 'vendor-signed', statement, CHAIN);
  if (key === null) return unchecked(check, KEYLESS);
  if (!isWholeChain(endorsement)) {
    return unchecked(check, "AMD's own certificates above the key are not at hand");
  }
  return checked(check, () => verifyChain(chain, anchors.amdArk, chains));
}

function appraiseExpiry(
  { chain, key }: SnpEndorsement,
  { nowMs }: SnpContext,
): Claim | Promise<Claim> {
  const check = cpuCheck('cpu.expiry', 'vendor-signed', 'no certificate is expired', CHAIN);
  if (key === null) return unchecked(check, KEYLESS);
  return checked(check, () => {
    const expired = expiryOf(chain, nowMs);
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
  if (!isWholeChain(endorsement)) return unchecked(check, 'The key it is about is not at hand');
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
  { chain, key: stated }: SnpEndorsement,
  isVouched: boolean,
): Claim | Promise<Claim> {
  const check = cpuCheck('cpu.quote', 'cpu-signed', "the report's signature holds", REPORT);
  if (stated === null) return unchecked(check, KEYLESS);
  const source = { isGenuine: isVouched, doubt: 'The key is not known to be that of a CPU' };
  return checkedIn(source, check, async () => {
    const key = await keyOf(chain[0]!, 'P-384');
    await demandSignature(key, 'P-384', report.signature, report.signed, 'the SNP report');
  });
}

function appraiseIdentity(
  report: SnpReport,
  { key, chain }: SnpEndorsement,
  isSigned: boolean,
): Claim | Promise<Claim> {
  const evidence = [...REPORT, ...CHAIN];
  if (key === null) {
    const unknown = 'it is a known chip';
    return unchecked(cpuCheck('cpu.identity', 'cpu-signed', unknown, evidence, null), KEYLESS);
  }
  const owner =
    key.hardwareId === null ? `provider=${key.providerId}` : `chip=${toHex(key.hardwareId)}`;
  const value = [`product=${key.productName}`, owner];
  const statement = `it is ${value.join(', ')}`;
  const check = cpuCheck('cpu.identity', 'cpu-signed', statement, evidence, value);
  const source = { isGenuine: isSigned, doubt: 'Nothing proves that the report is genuine' };
  return checkedIn(source, check, () => demandSnpKey(report, chain[0]!, key));
}

/** What is reported, what the host can go back to, and what the guest was started under. */
function appraiseFirmware(
  report: SnpReport,
  key: SnpKey | null,
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
      if (key === null) {
        const unknown = cpuCheck(kind, 'cpu-signed', `${words} of some version`, REPORT, null);
        return unchecked(unknown, KEYLESS);
      }
      const tcb = readSnpTcb(bytes, key.product);
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
