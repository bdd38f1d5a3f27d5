import { firstOf, type TierPolicy } from '../policy.ts';

/** Everything that leaves the device is kept; what was used longest ago makes room. */
export function lru(): TierPolicy {
  return {
    writesThrough: false,
    keepsOrder: false,
    queueOf: () => 0,
    victim: firstOf,
    admits: (span) => span.length,
  };
}
