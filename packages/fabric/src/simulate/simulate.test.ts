import { describe, expect, it } from 'vitest';
import { DOWN_ORDERS } from '../tenancy/state.ts';
import { simulate } from './simulate.ts';

const STORM = { stormSeconds: 600, faultProbability: 0.05, crashProbability: 0.003 };

/** `bridgekeeper fabric simulate` runs a thousand. */
const SEEDS = Array.from({ length: 12 }, (_, index) => index + 1);

describe('a host through a storm', () => {
  it.each(SEEDS)('keeps every invariant, and comes to rest, on seed %i', async (seed) => {
    const { violations, unfinished, crashes, faults } = await simulate({ seed, ...STORM });
    expect({ violations, unfinished }).toEqual({ violations: [], unfinished: [] });
    expect(crashes).toBeGreaterThan(0);
    expect(faults).toBeGreaterThan(0);
  });

  it('has the same history for the same seed, byte for byte, and another for another', async () => {
    const [one, again, other] = await Promise.all(
      [3, 3, 4].map((seed) => simulate({ seed, ...STORM })),
    );
    expect(again!.history.join('\n')).toBe(one!.history.join('\n'));
    expect(other!.digest).not.toBe(one!.digest);
  });

  it('decides alike whatever the wall clock says', async () => {
    const calm = { stormSeconds: 0, faultProbability: 0, crashProbability: 0, seed: 5 };
    const withoutTimes = (lines: readonly string[]) =>
      lines.map((line) => line.replace(/(log .*) [0-9a-f]{12}$/, '$1'));
    const still = await simulate(calm);
    const jumping = await simulate({
      ...calm,
      happen(world, round) {
        world.wallOffMs = round % 2 === 0 ? 9e11 : -9e11;
        return undefined;
      },
    });
    expect(withoutTimes(jumping.history)).toEqual(withoutTimes(still.history));
  });
});

describe.each(DOWN_ORDERS)('an agent that ends at any await, %s', (order) => {
  const wanted = [
    {
      id: 'tenancy-a',
      tenant: 'aurora-bank',
      modules: [5, 6],
      order,
      guest: { image: 'image', memoryBytes: 2 ** 30 },
    },
  ];
  const calm = { seed: 7, stormSeconds: 0, faultProbability: 0, crashProbability: 0, wanted };

  it('leaves nothing undone and nothing done twice', { timeout: 60_000 }, async () => {
    const { awaits } = await simulate(calm);
    // Every one of them with `fabric simulate --every-await`; here some, and others each order.
    const failed: unknown[] = [];
    for (let crashAt = order === 'stop-first' ? 1 : 4; crashAt <= awaits; crashAt += 7) {
      const { violations, unfinished } = await simulate({ ...calm, crashAt });
      if (violations.length + unfinished.length > 0)
        failed.push({ crashAt, violations, unfinished });
    }
    expect(failed).toEqual([]);
  });
});
