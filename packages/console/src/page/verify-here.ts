/// <reference lib="dom" />
import { BUILT_IN_POLICIES, judgeInPage, resultView } from '@bridgekeeper/attest/page';
import type { Report } from './evidence-from.ts';

/** The verdict over evidence, by the rules of `bridgekeeper verify`; nothing is fetched for it. */
export async function judge(reports: readonly Report[], nonce: Uint8Array<ArrayBuffer> | null) {
  const policy = BUILT_IN_POLICIES.get(nonce === null ? 'evidence' : 'service')!;
  const files = reports.map((report) => ({ ...report, isNamed: true }));
  const result = await judgeInPage({ files, policy, nonce, atMs: Date.now() });
  const { verdict } = result;
  return { verdict: verdict.result, policy: verdict.policy, view: resultView(result) };
}
