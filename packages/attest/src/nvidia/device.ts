import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import type { AppraisalContext } from '../claims/context.ts';
import { type Certificate, nameOf } from '../core/certificate.ts';
import { expiryOf, verifyChain } from '../core/chain.ts';
import { AttestError, demand } from '../core/errors.ts';
import { importSpki, verifyEcdsa } from '../core/signature.ts';
import { appraiseRevocation } from '../revocation/appraise.ts';
import { appraiseFacts } from './device-facts.ts';
import type { DeviceReport } from './device-report.ts';
import type { DeviceEvidence } from './evidence.ts';
import { demandDeviceChain, identityOf } from './identity.ts';
import { kindOf } from './kinds.ts';

/** A device with what came of checking its evidence. */
export interface AppraisedDevice {
  /** Like `GPU-0`. */
  readonly subject: string;
  readonly report: DeviceReport;
  /** Whether chain and signature hold; otherwise nothing that the report says can. */
  readonly isAuthentic: boolean;
  /** 16 hexadecimal digits; null unless it is verified. */
  readonly pdi: string | null;
  readonly claims: readonly Claim[];
}

/** Checks one device's evidence; what is wrong with it is in the claims. */
export async function appraiseDevice(
  subject: string,
  evidence: DeviceEvidence,
  context: AppraisalContext,
): Promise<AppraisedDevice> {
  const { report } = evidence;
  const [chain, expiry, revocation, signature] = await Promise.all([
    appraiseChain(subject, evidence, context),
    appraiseExpiry(subject, evidence, context),
    appraiseChainRevocation(subject, evidence, context),
    appraiseSignature(subject, evidence),
  ]);
  const isAuthentic = chain.status === 'verified' && signature.status === 'verified';
  const facts = await appraiseFacts(subject, evidence, isAuthentic, context.nonce);
  const isKnown = facts.some(({ kind, status }) => {
    return kind === kindOf(report.kind, 'identity') && status === 'verified';
  });
  return {
    subject,
    report,
    isAuthentic,
    pdi: isKnown ? identityOf(evidence.chain, report) : null,
    claims: [
      chain,
      expiry,
      ...revocation,
      chain.status === 'verified' ? signature : withoutChain(signature),
      ...facts,
    ],
  };
}

async function appraiseChain(
  subject: string,
  { chain, report }: DeviceEvidence,
  { anchors, chains }: AppraisalContext,
): Promise<Claim> {
  const check: Check = {
    kind: kindOf(report.kind, 'chain'),
    subject,
    voucher: 'vendor-signed',
    statement: `its ${chain.length} certificates lead to ${nameOf(chain.at(-1)!)}, which is pinned`,
    evidence: [`${subject} certificates`],
    why: 'Without it anyone can have made the report',
  };
  return checked(check, async () => {
    await verifyChain(chain, anchors.nvidiaDevice, chains);
    demandDeviceChain(chain);
  });
}

async function appraiseExpiry(
  subject: string,
  { chain, report }: DeviceEvidence,
  { nowMs }: AppraisalContext,
): Promise<Claim> {
  const check: Check = {
    kind: kindOf(report.kind, 'expiry'),
    subject,
    voucher: 'vendor-signed',
    statement: 'all its certificates are valid at this time',
    evidence: [`${subject} certificates`],
    why: 'The vendor no longer answers for a certificate that has expired',
  };
  return checked(check, () => {
    const expired = expiryOf(chain, nowMs);
    if (expired === null) return;
    throw new AttestError('certificate-expired', `${nameOf(expired)} is not valid at this time`);
  });
}

/** The leaf is the device's own work, made at every start: the vendor speaks of the rest. */
function appraiseChainRevocation(
  subject: string,
  { chain, report }: DeviceEvidence,
  context: AppraisalContext,
): Promise<Claim[]> {
  const check: Check = {
    kind: kindOf(report.kind, 'revocation'),
    subject,
    voucher: 'vendor-signed',
    statement: 'none of its certificates is revoked',
    evidence: [`${subject} certificates`],
    why: 'The vendor revokes the certificates of devices that it knows to be broken',
  };
  return appraiseRevocation(check, chain.slice(1), context);
}

async function appraiseSignature(
  subject: string,
  { chain, report }: DeviceEvidence,
): Promise<Claim> {
  const check: Check = {
    kind: kindOf(report.kind, 'signature'),
    subject,
    voucher: 'device-signed',
    statement: "the device's key signed the report",
    evidence: [`${subject} report`, `${subject} certificates`],
    why: 'What the report says can have been changed',
  };
  return checked(check, async () => {
    const isGood = await isSignedByLeaf(report, chain[0]!);
    demand(isGood, 'signature-invalid', "the report's signature does not hold");
  });
}

async function isSignedByLeaf({ spdm }: DeviceReport, leaf: Certificate): Promise<boolean> {
  try {
    const key = await importSpki(leaf.spki, { kind: 'ecdsa', hash: 'SHA-384' });
    return await verifyEcdsa(key, 'P-384', 'SHA-384', spdm.signature, spdm.signedBytes);
  } catch (error) {
    if (error instanceof AttestError || error instanceof DOMException) return false;
    throw error;
  }
}

/** A signature under a key that nobody vouches for proves nothing, however well it holds. */
function withoutChain(signature: Claim): Claim {
  if (signature.status !== 'verified') return signature;
  const { kind, subject, voucher, statement, evidence } = signature;
  const why = 'The key is by nobody who is trusted';
  return unchecked({ kind, subject, voucher, statement, evidence, why }, 'The chain is refused');
}
