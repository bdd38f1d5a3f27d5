import type { Claim } from '../claims/claim.ts';
import type { Bytes } from '../core/bytes.ts';
import type { Reason, Verdict } from '../policy/judge.ts';

/** Something that was given and could not be read: nothing in it was judged. */
export interface UnreadableInput {
  /** As it was given. */
  readonly name: string;
  readonly code: string;
  /** Names it. */
  readonly message: string;
}

/** All that verification says: what every output is made from. */
export interface VerifyResult {
  /** What was verified, in the user's words: file names, an address. */
  readonly input: string;
  /** The moment that validity was judged at, in ms since 1970. */
  readonly atMs: number;
  /** What the evidence had to carry; null: nothing was asked for. */
  readonly nonce: Bytes | null;
  readonly claims: readonly Claim[];
  readonly verdict: Verdict;
  /** What was set aside or assumed on the way, one sentence each, without a full stop. */
  readonly notes: readonly string[];
  /** What else was given. The rest was judged without it, and the whole is refused. */
  readonly unreadable: readonly UnreadableInput[];
}

/**
 * The result with more that could not be read. It is refused, as what was given to be verified and
 * left out could be what speaks against the machine.
 */
export function withUnreadable(
  result: VerifyResult,
  unreadable: readonly UnreadableInput[],
): VerifyResult {
  if (unreadable.length === 0) return result;
  const reasons = unreadable.map(({ message: text }): Reason => {
    return { rule: 'always', subject: 'ALL', kind: 'any', text };
  });
  const { verdict } = result;
  return {
    ...result,
    verdict: { ...verdict, result: 'refused', reasons: [...verdict.reasons, ...reasons] },
    unreadable: [...result.unreadable, ...unreadable],
  };
}

/** Claims by status. */
export function countByStatus(claims: readonly Claim[]) {
  const count = (status: Claim['status']) =>
    claims.filter((claim) => claim.status === status).length;
  return {
    claimsVerified: count('verified'),
    claimsRefused: count('refused'),
    claimsUnverified: count('unverified'),
  };
}
