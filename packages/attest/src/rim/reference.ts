import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim, ClaimValue } from '../claims/claim.ts';
import type { AppraisalContext } from '../claims/context.ts';
import type { Bytes } from '../core/bytes.ts';
import { type Certificate, nameOf, parseCertificate } from '../core/certificate.ts';
import { expiryOf, verifyChain } from '../core/chain.ts';
import { demand } from '../core/errors.ts';
import { appraiseRevocation } from '../revocation/appraise.ts';
import { verifyEnvelopedSignature } from './signature.ts';
import { type Rim, readRim } from './swid.ts';

/** The claims about a reference, each with why it matters when it does not hold. */
const WHY = {
  'rim.chain': 'Without a chain to the vendor, anyone may have written the reference',
  'rim.signature': 'Anyone may have changed the reference',
  'rim.version': 'Measurements of one version say nothing about another',
  'rim.expiry': 'The vendor stands by a reference only while its signer is valid',
  'rim.revocation': 'A key that its vendor gave up may be in the hands of anyone',
} as const;

export type ReferenceClaimKind = keyof typeof WHY;
export const REFERENCE_CLAIM_KINDS = Object.keys(WHY) as readonly ReferenceClaimKind[];

/** One document of reference measurements and what it is to be the reference for. */
export interface ReferenceDocument {
  /** What claims are about, like `RIM-0`. */
  readonly subject: string;
  readonly id: string;
  readonly bytes: Bytes;
  /** The versions that devices report of what it describes; empty: no device is at hand. */
  readonly versions: readonly string[];
}

export interface ReferenceAppraisal {
  readonly claims: readonly Claim[];
  /** null: chain or signature do not hold, or it is for another version. */
  readonly trusted: Rim | null;
}

/**
 * Whether a RIM is the vendor's: chain to a pinned root, signature by that chain's leaf, version,
 * expiry, revocation. The last two do not take trust away here: that is for a policy to do.
 */
export async function appraiseReference(
  reference: ReferenceDocument,
  context: AppraisalContext,
): Promise<ReferenceAppraisal> {
  const { id, versions } = reference;
  const check = (kind: ReferenceClaimKind, statement: string, value?: ClaimValue) =>
    checkOf(reference, kind, statement, value);
  const opening = open(reference);
  const traced = await checked(
    check('rim.chain', 'Its signer is certified under a pinned root of the vendor', id),
    async () => {
      const { chain } = await opening;
      await verifyChain(chain, context.anchors.nvidiaRim, context.chains);
    },
  );
  if (traced.status !== 'verified') return { claims: [traced], trusted: null };
  const { rim, chain } = await opening;
  const signed = await checked(
    check('rim.signature', `All of it is signed by ${nameOf(chain[0]!)}`),
    () => verifyEnvelopedSignature(rim.signature, chain[0]!),
  );
  const fits = await appraiseVersion(
    check('rim.version', `It is for ${rim.product} version ${rim.version}`, rim.version),
    rim,
    versions,
  );
  const current = await checked(
    check('rim.expiry', `All ${chain.length} certificates of its signer are valid`),
    () => demandValid(chain, context.nowMs),
  );
  const standing = await appraiseRevocation(
    check('rim.revocation', 'No certificate of its signer is revoked'),
    chain,
    context,
  );
  const isTrusted = signed.status === 'verified' && fits.status !== 'refused';
  const claims = [traced, signed, fits, current, ...standing];
  return { claims, trusted: isTrusted ? rim : null };
}

function checkOf(
  { subject, id }: ReferenceDocument,
  kind: ReferenceClaimKind,
  statement: string,
  value?: ClaimValue,
): Check {
  const evidence = [`RIM ${id}`];
  const check = { kind, subject, voucher: 'vendor-signed', statement, evidence } as const;
  return { ...check, why: WHY[kind], ...(value === undefined ? {} : { value }) };
}

async function open({ id, bytes }: ReferenceDocument) {
  const what = `RIM ${id}`;
  const rim = readRim(bytes, what);
  const chain = await Promise.all(
    rim.signature.certificates.map((der, i) =>
      parseCertificate(der, `certificate ${i} of ${what}`),
    ),
  );
  return { rim, chain };
}

async function appraiseVersion(
  check: Check,
  rim: Rim,
  versions: readonly string[],
): Promise<Claim> {
  if (versions.length === 0) return unchecked(check, 'No device that runs it was given');
  return checked(check, () => {
    const other = versions.find((version) => version.toUpperCase() !== rim.version);
    const problem = `It is for version ${rim.version}, and a device runs ${other}`;
    demand(other === undefined, 'firmware-mismatch', problem);
  });
}

function demandValid(chain: readonly Certificate[], nowMs: number): void {
  const expired = expiryOf(chain, nowMs);
  if (expired === null) return;
  const [from, to] = [expired.notBeforeMs, expired.notAfterMs].map(dayOf);
  demand(false, 'certificate-expired', `${nameOf(expired)} is valid from ${from} to ${to} alone`);
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
