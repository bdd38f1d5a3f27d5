import { aloneNs, type CrossingCost } from '@bridgekeeper/bridge';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CostPoint, fitIdleCost } from './crossing-cost.ts';

const SIZES = Array.from({ length: 12 }, (_, power) => 64 * 4 ** power);

/** A law with a toll, a rate up to 16 KiB at the least, and a higher one for large copies. */
const laws = fc
  .record({
    idleTollNs: fc.double({ min: 2_000, max: 400_000, noNaN: true }),
    slow: fc.double({ min: 1e9, max: 30e9, noNaN: true }),
    gain: fc.double({ min: 1, max: 2.5, noNaN: true }),
    firstPower: fc.integer({ min: 14, max: 20 }),
  })
  .map(({ idleTollNs, slow, gain, firstPower }): CrossingCost => {
    const first = 2 ** firstPower;
    return {
      idleTollNs,
      queuedTollNs: 0,
      freshTollNs: 0,
      issuer: { blockedUntil: 'done' },
      bandwidth: [
        { bytes: first, bytesPerSecond: slow },
        { bytes: 64 * first, bytesPerSecond: slow * gain },
      ],
    };
  });

const pointsOf = (cost: CrossingCost, noise: (index: number) => number = () => 1): CostPoint[] =>
  SIZES.map((bytes, index) => ({ bytes, ns: aloneNs(cost, bytes) * noise(index) }));

const complete = (idle: ReturnType<typeof fitIdleCost>): CrossingCost => ({
  ...idle,
  queuedTollNs: 0,
  freshTollNs: 0,
  issuer: { blockedUntil: 'done' },
});

const errorOf = (value: number, truth: number) => Math.abs(value / truth - 1);

test('recovers the toll and the rates of any law', () => {
  fc.assert(
    fc.property(laws, (law) => {
      const fitted = fitIdleCost(pointsOf(law));
      expect(errorOf(fitted.idleTollNs, law.idleTollNs)).toBeLessThan(0.05);
      const last = fitted.bandwidth.at(-1)!.bytesPerSecond;
      expect(errorOf(last, law.bandwidth[1]!.bytesPerSecond)).toBeLessThan(0.05);
      for (const bytes of SIZES) {
        const error = errorOf(aloneNs(complete(fitted), bytes), aloneNs(law, bytes));
        expect(error).toBeLessThan(0.05);
      }
    }),
  );
});

test('noise of a few percent and one size gone wrong do not move the toll', () => {
  const signs = fc.array(fc.double({ min: -0.02, max: 0.02, noNaN: true }), {
    minLength: SIZES.length,
    maxLength: SIZES.length,
  });
  // Of a law whose toll shows in enough sizes: otherwise there is nothing to outvote the bad one.
  const tolls = laws.filter(({ idleTollNs }) => idleTollNs > 20_000);
  fc.assert(
    fc.property(tolls, signs, fc.integer({ min: 1, max: 3 }), (law, noise, bad) => {
      const points = pointsOf(law, (index) => (index === bad ? 1.4 : 1 + noise[index]!));
      const { idleTollNs } = fitIdleCost(points);
      expect(errorOf(idleTollNs, law.idleTollNs)).toBeLessThan(0.1);
    }),
  );
});

test('more bytes never arrive sooner, whatever was measured', () => {
  const costs = fc.array(fc.double({ min: 1, max: 1e9, noNaN: true }), {
    minLength: 3,
    maxLength: SIZES.length,
  });
  fc.assert(
    fc.property(costs, (ns) => {
      const points = ns.map((each, index) => ({ bytes: SIZES[index]!, ns: each }));
      const fitted = complete(fitIdleCost(points));
      const times = SIZES.map((bytes) => aloneNs(fitted, bytes));
      for (const [index, time] of times.entries()) {
        expect(Number.isFinite(time)).toBe(true);
        if (index > 0) expect(time).toBeGreaterThanOrEqual(times[index - 1]! * (1 - 1e-12));
      }
    }),
  );
});
