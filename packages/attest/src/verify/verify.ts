import { judge } from '../policy/judge.ts';
import type { Policy } from '../policy/policy.ts';
import type { VerifyResult } from '../result/result.ts';
import { appraise, type VerifyContext } from './appraise.ts';
import type { GivenFile } from './documents.ts';
import { readEvidence } from './evidence.ts';

export interface VerifyRequest {
  /** What is verified, in the user's words. */
  readonly input: string;
  readonly files: readonly GivenFile[];
  readonly policy: Policy;
  readonly context: Omit<VerifyContext, 'snpMinimumTcb'>;
}

/**
 * Verifies evidence: reads it, makes claims of it, judges them by a policy. Runs in browsers as
 * well: files, services and time come from the caller. Throws AttestError with a reading code for
 * what cannot be read; what is wrong with the evidence is in the result.
 */
export async function verifyEvidence(request: VerifyRequest): Promise<VerifyResult> {
  const { input, files, context, policy } = request;
  const evidence = await readEvidence(files);
  const { snpMinimumTcb } = policy;
  const claims = await appraise(evidence, { ...context, snpMinimumTcb });
  const { nowMs: atMs, nonce } = context;
  const said = (evidence.server?.notes ?? []).map((note) => `the server says: ${note}`);
  const notes = [...evidence.notes, ...said];
  const verdict = judge(claims, policy);
  return { input, atMs, nonce, claims, verdict, notes, unreadable: [] };
}
