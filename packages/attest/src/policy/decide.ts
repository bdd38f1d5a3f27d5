import type { Claim } from '../claims/claim.ts';
import { judge, type Verdict } from './judge.ts';
import type { Policy } from './policy.ts';
import { settle } from './settle.ts';

/** Claims with what a policy expects taken into account, and its verdict on them. */
export function decide(
  claims: readonly Claim[],
  policy: Policy,
): { readonly claims: readonly Claim[]; readonly verdict: Verdict } {
  const settled = settle(claims, policy);
  return { claims: settled, verdict: judge(settled, policy) };
}
