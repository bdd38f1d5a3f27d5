import { describe, expect, it } from 'vitest';
import { findMutant } from './mutants/find.ts';
import { replayCommand, shrink } from './shrink.ts';
import { type SimulationResult, simulate } from './simulate.ts';

describe('a simulation', () => {
  it('has one history for one seed, on every release of Node', async () => {
    const options = { seed: 11, requests: 20 };
    const one = await simulate(options);
    const other = await simulate({ ...options, keepsHistory: true });
    expect(other.digest).toBe(one.digest);
    expect(other.history!.length).toBeGreaterThan(20);
    // Of 20.20.2 and 24.22.3. What the product does changes it: then it is written anew.
    expect(one.digest).toBe('ecbdb5ff3ac9f272778d5b4cbc9c0bd1bd097320df72c83fef97c094072a4505');
  });

  it('keeps what the product promises, whatever fails', async () => {
    for (const seed of [2, 4, 8]) {
      const { violations, counts } = await simulate({ seed, requests: 25 });
      expect({ seed, violations }).toEqual({ seed, violations: [] });
      expect(counts.sent).toBe(25);
    }
  });

  it('answers everything where nothing fails', async () => {
    const { counts, violations } = await simulate({ seed: 3, requests: 15, faults: [] });
    expect(violations).toEqual([]);
    expect(counts.failed! + counts.unreachable!).toBe(0);
  });
});

describe('a bug in the product', () => {
  it.each([
    ['page-freed-twice', 'pages-kept'],
    ['crossing-not-written-down', 'ledger-true'],
  ])('%s is found', { timeout: 120_000 }, async (name, invariant) => {
    expect(await findMutant(name, 1, 10)).toMatchObject({ invariant });
  });
});

it('a failure is made smaller, as far as it stays the same', async () => {
  // What fails here is made up: that a disk is never full.
  const failed = await simulate({ seed: 7, requests: 12, faults: ['wall', 'split'] });
  const broken: SimulationResult = {
    ...failed,
    violations: [{ invariant: 'live', what: 'made up', atNs: 0 }],
  };
  const { requests, faults, tries } = await shrink(broken, 4);
  // Nothing smaller fails, for nothing fails.
  expect({ requests, faults, tries }).toEqual({
    requests: 12,
    faults: ['wall', 'split'],
    tries: 4,
  });
  expect(replayCommand(broken)).toBe(
    'npm run simulate -- --seed 7 --requests 12 --faults wall,split',
  );
});
