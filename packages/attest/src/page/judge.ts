import './without-eval.ts';
import type { Bytes } from '../core/bytes.ts';
import { ChainCache } from '../core/chain.ts';
import type { Policy } from '../policy/policy.ts';
import type { VerifyResult } from '../result/result.ts';
import type { GivenFile } from '../verify/documents.ts';
import { VENDOR_ROOTS } from '../verify/vendor-roots.ts';
import { verifyEvidence } from '../verify/verify.ts';

export { BUILT_IN_POLICIES } from '../policy/built-in.ts';
export { failureView, resultView } from './view.ts';

export interface PageRequest {
  readonly files: readonly GivenFile[];
  readonly policy: Policy;
  /** What was asked under; null: nothing was asked. */
  readonly nonce: Bytes | null;
  /** As of when, in ms since 1970. */
  readonly atMs: number;
}

/**
 * Verifies in a page. Vendors' services answer no pages of others: what they say comes as files.
 * Throws AttestError.
 */
export function judgeInPage({ files, policy, nonce, atMs }: PageRequest): Promise<VerifyResult> {
  return verifyEvidence({
    input: files.map(({ name }) => name).join(' '),
    files,
    policy,
    context: {
      nowMs: atMs,
      anchors: VENDOR_ROOTS,
      chains: new ChainCache(),
      nonce,
      references: null,
      revocation: null,
      tokenKeys: null,
      collateral: null,
    },
  });
}
