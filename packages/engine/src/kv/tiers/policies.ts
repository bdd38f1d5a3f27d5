import { lru } from './policies/lru.ts';
import { priced } from './policies/priced.ts';
import { s3Fifo } from './policies/s3-fifo.ts';
import { secondTouch } from './policies/second-touch.ts';
import { writeThrough } from './policies/write-through.ts';
import type { TierPolicy } from './policy.ts';
import type { KvPrices } from './prices.ts';

const POLICIES = {
  priced,
  'second-touch': secondTouch,
  lru,
  's3-fifo': s3Fifo,
  'write-through': writeThrough,
} as const;

export type TierPolicyName = keyof typeof POLICIES;
export const TIER_POLICY_NAMES = Object.keys(POLICIES) as readonly TierPolicyName[];

export function createTierPolicy(name: TierPolicyName, prices: KvPrices): TierPolicy {
  return POLICIES[name](prices);
}
