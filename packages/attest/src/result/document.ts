import type { Claim } from '../claims/claim.ts';
import type { UnreadableFile } from '../core/errors.ts';
import type { Verdict } from '../policy/judge.ts';
import { countByStatus, type VerifyResult } from './result.ts';
import { type Appraisal, appraisalsOf } from './trust-vector.ts';

/** One run of the suite "verify", in the shape that all suites share. */
export interface VerifyRun {
  readonly parameters: { readonly input: string; readonly policy: string; readonly at: string };
  readonly metrics: {
    readonly verdict: Verdict['result'];
    readonly claimsVerified: number;
    readonly claimsRefused: number;
    readonly claimsUnverified: number;
    readonly elapsedMs: number;
  };
  readonly repeats: 1;
  readonly spread: Readonly<Record<string, never>>;
}

/** What `--json` holds besides where and when it was made. */
export interface VerifyDocument {
  readonly runs: readonly [VerifyRun];
  readonly verdict: Verdict;
  readonly claims: readonly Claim[];
  /** A summary of each subject after AR4SI. */
  readonly appraisals: Readonly<Record<string, Appraisal>>;
  readonly notes: readonly string[];
  readonly unreadable: readonly UnreadableFile[];
}

export function verifyDocument(result: VerifyResult, elapsedMs: number): VerifyDocument {
  const { input, atMs, claims, verdict, notes, unreadable } = result;
  const run: VerifyRun = {
    parameters: { input, policy: verdict.policy, at: new Date(atMs).toISOString() },
    metrics: { verdict: verdict.result, ...countByStatus(claims), elapsedMs },
    repeats: 1,
    spread: {},
  };
  return { runs: [run], verdict, claims, appraisals: appraisalsOf(result), notes, unreadable };
}
