import type { Claim } from '../claims/claim.ts';
import type { UnreadableFile } from '../core/errors.ts';
import { decide } from '../policy/decide.ts';
import type { Reason, Verdict } from '../policy/judge.ts';
import type { Policy } from '../policy/policy.ts';
import type { MachineObservation } from '../report/observation.ts';
import type { VerifyResult } from '../result/result.ts';
import { appraise, type VerifyContext } from './appraise.ts';
import type { GivenFile } from './documents.ts';
import { readEvidence } from './evidence.ts';

/** What came of the evidence, before a policy judges it. */
export interface Found {
  readonly claims: readonly Claim[];
  /** What NVML told the guest, as its report says; null: there is no such report. */
  readonly observed: MachineObservation | null;
}

export interface VerifyRequest {
  /** What is verified, in the user's words. */
  readonly input: string;
  readonly files: readonly GivenFile[];
  /** Files that were given and could not even be opened. */
  readonly unreadable?: readonly UnreadableFile[];
  readonly policy: Policy;
  readonly context: Omit<VerifyContext, 'snpMinimumTcb'>;
  /** Claims of what others keep about the same machine, compared with what was found. */
  readonly compare?: (found: Found) => Promise<readonly Claim[]>;
}

/**
 * Verifies evidence: reads it, makes claims of it, judges them by a policy. Runs in browsers as
 * well: files, services and time come from the caller. What is wrong with the evidence is in the
 * result, and so is what could not be read of it. Throws AttestError with a reading code where
 * nothing could be read, or what was does not fit together.
 */
export async function verifyEvidence(request: VerifyRequest): Promise<VerifyResult> {
  const { input, files, context, policy, compare } = request;
  const evidence = await readEvidence(files, request.unreadable);
  const { snpMinimumTcb } = policy;
  const appraised = await appraise(evidence, { ...context, snpMinimumTcb });
  const observed = evidence.server?.statement?.observed ?? null;
  const compared = (await compare?.({ claims: appraised, observed })) ?? [];
  const { nowMs: atMs, nonce } = context;
  const said = (evidence.server?.notes ?? []).map((note) => `the server says: ${note}`);
  const notes = [...evidence.notes, ...said];
  const { unreadable } = evidence;
  const { claims, verdict } = decide([...appraised, ...compared], policy);
  const whole = refuseUnread(verdict, unreadable);
  return { input, atMs, nonce, claims, verdict: whole, unreadable, notes };
}

/** What was given and left out could be what speaks against the machine. */
function refuseUnread(verdict: Verdict, unreadable: readonly UnreadableFile[]): Verdict {
  if (unreadable.length === 0) return verdict;
  const reasons = unreadable.map(({ message: text }): Reason => {
    return { rule: 'always', subject: 'ALL', kind: 'any', text };
  });
  return { ...verdict, result: 'refused', reasons: [...verdict.reasons, ...reasons] };
}
