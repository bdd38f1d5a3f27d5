import type { TierPolicy } from '../policy.ts';
import { lru } from './lru.ts';

/** Only what a second request has used is kept. */
export function secondTouch(): TierPolicy {
  return { ...lru(), admits: (span) => span.filter(({ hits }) => hits > 1).length };
}
