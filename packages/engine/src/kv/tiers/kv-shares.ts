import type { RecomputedFor } from '../page-node.ts';
import type { StoreName } from './movement.ts';

/** What one request had of the KV below the device, in tokens. */
export type KvShare = {
  readonly tokens: number;
} & (
  | {
      /** It was brought to the device because this request asked for it. */
      readonly what: 'restored';
      readonly from: StoreName;
    }
  | {
      /** This request computed it again. */
      readonly what: 'recomputed';
      readonly why: RecomputedFor;
    }
);

/**
 * Shares of one request with those alike added up; without those that come to nothing, or to less
 * than that: a request may give up what another asked for, which has left since.
 */
export function sumOfKvShares(shares: readonly KvShare[]): KvShare[] {
  const sums = new Map<string, KvShare>();
  for (const share of shares) {
    const name = `${share.what} ${share.what === 'restored' ? share.from : share.why}`;
    sums.set(name, { ...share, tokens: share.tokens + (sums.get(name)?.tokens ?? 0) });
  }
  return [...sums.values()].filter(({ tokens }) => tokens > 0);
}
