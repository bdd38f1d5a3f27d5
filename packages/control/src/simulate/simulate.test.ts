import { describe, expect, it } from 'vitest';
import { simulateFleet } from './simulate.ts';

const SEEDS = 10;
const STEPS = 300;

describe('a fleet under faults', () => {
  it('keeps what it promises, and comes to what is wanted', async () => {
    const counts: Record<string, number> = {};
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const result = await simulateFleet({ seed, steps: STEPS, hosts: 3 });
      expect({ seed, broken: result.broken.slice(0, 3) }).toEqual({ seed, broken: [] });
      for (const [name, count] of Object.entries(result.counts)) {
        counts[name] = (counts[name] ?? 0) + count;
      }
    }
    // Each kind of fault was there.
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(5);
  });

  it('has one history for one seed', async () => {
    const one = await simulateFleet({ seed: 7, steps: 200, hosts: 2 });
    const other = await simulateFleet({ seed: 7, steps: 200, hosts: 2 });
    expect(other.history).toEqual(one.history);
  });
});

describe('the judge', () => {
  it.each(['early-release', 'no-epoch', 'forgets-guests'] as const)(
    'notices %s',
    async (mutant) => {
      for (let seed = 1; seed <= 40; seed += 1) {
        const { broken } = await simulateFleet({ seed, steps: STEPS, hosts: 2, mutant });
        if (broken.length > 0) return;
      }
      expect.fail('no history broke a promise');
    },
  );
});
