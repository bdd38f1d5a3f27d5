import type { Claim } from '../claims/claim.ts';
import { groupBy } from '../core/group.ts';
import { requirementsOf } from './families.ts';
import type { Policy, Requirement } from './policy.ts';
import { isCompared, valueFault } from './value.ts';

/**
 * Claims with what only the policy knows: which values are expected. A claim that is signed, and
 * unverified only because nothing was at hand to compare its value with, is verified where the
 * policy expects that value; so is then what depends on such claims. Linear in the claims.
 */
export function settle(claims: readonly Claim[], policy: Policy): Claim[] {
  const bySubject = groupBy(claims, ({ subject }) => subject);
  const wanted = new Map(
    [...bySubject].map(([subject, own]) => [subject, requirementsOf(policy, subject, own)]),
  );
  const compared = claims.map((claim) => {
    const requirement = wanted.get(claim.subject)!.get(claim.kind);
    return requirement !== undefined && isExpected(claim, requirement) ? holding(claim) : claim;
  });
  const verified = new Set(compared.filter(isVerified).map(({ kind }) => kind));
  return compared.map((claim) => {
    const isSettled = (claim.dependsOn ?? []).every((kind) => verified.has(kind));
    return claim.status === 'depends-on' && isSettled ? holding(claim) : claim;
  });
}

const isVerified = ({ status }: Claim) => status === 'verified';

function isExpected({ status, voucher, value }: Claim, requirement: Requirement): boolean {
  const isOpen = status === 'unverified' && voucher.endsWith('-signed');
  return isOpen && isCompared(value, requirement) && valueFault(value, requirement) === null;
}

function holding({ why: _why, ...claim }: Claim): Claim {
  return { ...claim, status: 'verified' };
}
