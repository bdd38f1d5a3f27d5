import { checked, checkedIn, type Source, unchecked } from '../claims/check.ts';
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

/** Certificates for a report, from the key that signed it (VCEK, VLEK) over AMD's to its root. */
export interface SnpEndorsement {
  readonly chain: readonly Certificate[];
  /** What the key's certificate states; read by `readSnpEndorsement`. */
  readonly key: SnpKey;
  /** AMD's list of what its root revoked, or null. */
  readonly revocationList: RevocationList | null;
}

/** Throws AttestError 'malformed' or 'unsupported-version'; `chain` has to be of three. */
export function readSnpEndorsement(
  chain: readonly Certificate[],
  revocationList: RevocationList | null,
): SnpEndorsement {
  const isWhole = chain.length === 3;
  demand(isWhole, 'malformed', `an SNP chain has 3 certificates, this one ${chain.length}`);
  return { chain, key: readSnpKey(chain[0]!), revocationList };
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
    await appraiseRevocation(endorsement),
    signature,
    identity,
    await appraiseTcb(readSnpTcb(report.reportedTcb, key.product), source, context.minimumTcb),
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
async function appraiseRevocation(endorsement: SnpEndorsement): Promise<Claim> {
  const { chain, revocationList } = endorsement;
  const statement = "AMD did not revoke its own key under the chip's";
  const check = cpuCheck('cpu.revocation', 'vendor-signed', statement, ['AMD revocation list']);
  if (revocationList === null) return unchecked(check, "AMD's revocation list is not at hand");
  return checked(check, () => demandNotRevoked(revocationList, chain[2]!, [chain[1]!]));
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

function appraiseTcb(tcb: SnpTcb, source: Source, minimum: SnpTcb | null): Claim | Promise<Claim> {
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
