import type { Claim } from '../claims/claim.ts';
import type { Bytes } from '../core/bytes.ts';
import type { UnreadableFile } from '../core/errors.ts';
import type { Verdict } from '../policy/judge.ts';

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
  /**
   * Files that were given and could not be read: nothing in them was judged. Where there are any,
   * the verdict is `refused`.
   */
  readonly unreadable: readonly UnreadableFile[];
  /** What was set aside or assumed on the way, one sentence each, without a full stop. */
  readonly notes: readonly string[];
}

/** Claims by status. */
export function countByStatus(claims: readonly Claim[]) {
  const count = (status: Claim['status']) =>
    claims.filter((claim) => claim.status === status).length;
  return {
    claimsVerified: count('verified'),
    claimsRefused: count('refused'),
    claimsUnverified: count('unverified') + count('depends-on'),
  };
}
