import { checked, checkedIn, type Source, unchecked } from '../claims/check.ts';
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
  if (key === undefined) return { certificates, chain: [], key: null, revocationList };
  const chain = [key];
  while (chain.length < CHAIN_LENGTH) {
    const { issuerDer } = chain.at(-1)!;
    const issuer = certificates.find(({ subjectDer }) => equalBytes(subjectDer, issuerDer));
    if (issuer === undefined) break;
    chain.push(issuer);
  }
  return { certificates, chain, key: readSnpKey(key), revocationList };
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
    await appraiseRevocation(endorsement),
    signature,
    identity,
    await appraiseTcb(
      key && readSnpTcb(report.reportedTcb, key.product),
      source,
      context.minimumTcb,
    ),
    await appraiseLevel(report, source),
    ...(await appraiseGuest(
      {
        isGenuine,
        evidence: REPORT,
        isDebug: report.allowsDebug,
        migration: report.allowsMigration ? 'its policy allows a migration agent' : null,
        launch: report.measurement,
        measurements: measurementsOf(report),
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
async function appraiseRevocation(endorsement: SnpEndorsement): Promise<Claim> {
  const { chain, revocationList } = endorsement;
  const statement = "AMD did not revoke its own key under the chip's";
  const check = cpuCheck('cpu.revocation', 'vendor-signed', statement, ['AMD revocation list']);
  if (revocationList === null) return unchecked(check, "AMD's revocation list is not at hand");
  if (!isWholeChain(endorsement)) return unchecked(check, 'The key it is about is not at hand');
  return checked(check, () => demandNotRevoked(revocationList, chain[2]!, [chain[1]!]));
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

function appraiseTcb(
  tcb: SnpTcb | null,
  source: Source,
  minimum: SnpTcb | null,
): Claim | Promise<Claim> {
  if (tcb === null) {
    const unknown = 'the firmware has a version';
    return unchecked(cpuCheck('cpu.tcb', 'cpu-signed', unknown, REPORT, null), KEYLESS);
  }
  const shown = formatSnpTcb(tcb);
  const value = TCB_PARTS.map((name) => `${name}=${tcb[name]}`);
  const check = cpuCheck('cpu.tcb', 'cpu-signed', `the firmware is ${shown}`, REPORT, value);
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
    const message = `the firmware is ${shown}, of which ${low} is below the minimum`;
    demand(low === undefined, 'tcb-refused', message);
  });
}

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
