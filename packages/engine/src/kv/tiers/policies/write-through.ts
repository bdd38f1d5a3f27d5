import type { TierPolicy } from '../policy.ts';
import { lru } from './lru.ts';

/** Everything computed is copied to host memory at once, whether or not it will leave the device. */
export function writeThrough(): TierPolicy {
  return { ...lru(), writesThrough: true };
}
