import type { ExpertGroups } from '../../ops.ts';

/** FORMAT of the kernels of experts. */
export const EXPERT_FORMAT = { element: 0, 'fp8-e4m3': 1, mxfp4: 2, int4: 3 } as const;

/** Lines of an expert where they are spread evenly. */
export function meanLines({
  count,
  topK,
  allExperts,
}: Pick<ExpertGroups, 'count' | 'topK' | 'allExperts'>): number {
  return (count * topK) / allExperts;
}
