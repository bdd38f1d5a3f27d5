import type { TierPolicy } from '../policy.ts';
import { lru } from './lru.ts';

/** Everything computed is copied to host memory when its request ends, wherever it goes later. */
export function writeThrough(): TierPolicy {
  return { ...lru(), writesThrough: true };
}
