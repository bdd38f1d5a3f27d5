import { CPU_TARGETS } from './cpu-targets.ts';
import { DEVICE_TARGETS } from './device-targets.ts';
import { DSTACK_TARGETS } from './dstack-targets.ts';
import { MEASURE_TARGETS } from './measure-targets.ts';
import { SERVICE_TARGETS } from './service-targets.ts';
import { SIGNED_TARGETS } from './signed-targets.ts';
import type { FuzzTarget } from './target.ts';
import { WRAPPER_TARGETS } from './wrapper-targets.ts';

/** Every parser of the package, and every verification that must not accept a mutation. */
export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  ...DEVICE_TARGETS,
  ...CPU_TARGETS,
  ...DSTACK_TARGETS,
  ...MEASURE_TARGETS,
  ...SIGNED_TARGETS,
  ...SERVICE_TARGETS,
  ...WRAPPER_TARGETS,
];

/** How many of a campaign's `inputs` go to each target, by its share; at least one. */
export function shareOut(inputs: number, targets: readonly FuzzTarget[]): number[] {
  const shares = targets.reduce((sum, { share }) => sum + share, 0);
  return targets.map(({ share }) => Math.max(1, Math.ceil((inputs * share) / shares)));
}
