import { readSpec, specWorkload, type Workload } from '@bridgekeeper/planner';

/** A few seconds each on an H200 with an 8B model: all laws and policies take five minutes. */
export const LOADS = {
  c1: { spec: '1 at a time, 512+128, 3 requests', seed: 1 },
  c8: { spec: '8 at a time, 512+128, 16 requests', seed: 2 },
  c32: { spec: '32 at a time, 512+128, 64 requests', seed: 3 },
  c128: { spec: '128 at a time, 512+128, 192 requests', seed: 4 },
  '4rps': { spec: '4 req/s, 512+128, 16 requests', seed: 5 },
  '16rps': { spec: '16 req/s, 512+128, 48 requests', seed: 6 },
} as const;

export type LoadName = keyof typeof LOADS;
export const LOAD_NAMES = Object.keys(LOADS) as readonly LoadName[];

export function workloadOf(name: LoadName): Workload {
  const { spec, seed } = LOADS[name];
  return specWorkload(readSpec(spec), seed);
}

/** Served before each load, so that the engine knows what steps and prompts take. */
export const warmUp = (): Workload => specWorkload(readSpec('4 at a time, 512+24, 8 requests'), 7);
