import { expect, test } from 'vitest';
import { fuzz } from './fuzz.ts';
import { FUZZ_TARGETS, shareOut } from './targets.ts';

// A small campaign; `bridgekeeper bench fuzz` runs long ones. Keys are new in every run: of each
// refusal that is asked for there must be so many that none is only a rare chance.
const INPUTS = 120_000;
const INPUTS_MIN = 300;
const SEED = 20260115;
const counts = shareOut(INPUTS, FUZZ_TARGETS).map((count) => Math.max(INPUTS_MIN, count));

test.each(FUZZ_TARGETS.map((target, i) => [target.name, target, counts[i]!] as const))(
  'mutations are read or refused, and never accepted for genuine: %s',
  async (_, { refuses, prepare }, count) => {
    const { bases, parse } = await prepare();
    const { tried, read, refused } = await fuzz(SEED, count, bases, parse);
    expect(read + Object.values(refused).reduce((sum, n) => sum + n, 0)).toBe(tried);
    for (const code of refuses) expect([code, refused[code] ?? 0]).not.toEqual([code, 0]);
  },
);
