import fc from 'fast-check';
import { expect, test } from 'vitest';
import { arrivalSeconds } from './arrivals.ts';
import { Draws } from './draws.ts';

const positive = fc.double({ min: 0.05, max: 100, noNaN: true });

test('arrivals ascend, end at count / rate, and are those of their seed', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), positive, positive, fc.nat(), (...args) => {
      const [count, requestsPerSecond, burstiness, seed] = args;
      const options = { requestsPerSecond, burstiness };
      const times = arrivalSeconds(count, options, new Draws(seed, 'arrivals'));
      expect(times).toHaveLength(count);
      expect(times.every((time, index) => time >= (times[index - 1] ?? 0))).toBe(true);
      expect(times.at(-1)).toBeCloseTo(count / requestsPerSecond, 6);
      expect(arrivalSeconds(count, options, new Draws(seed, 'arrivals'))).toEqual(times);
    }),
  );
});

test.each([0.25, 1, 4])('gaps vary as burstiness %d says', (burstiness) => {
  const draws = new Draws(7, 'arrivals');
  const times = arrivalSeconds(20_000, { requestsPerSecond: 10, burstiness }, draws);
  const gaps = times.map((time, index) => time - (times[index - 1] ?? 0));
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
  expect(mean).toBeCloseTo(0.1, 9);
  // A gamma distribution's squared coefficient of variation is 1 / shape.
  expect((variance / mean ** 2) * burstiness).toBeGreaterThan(0.93);
  expect((variance / mean ** 2) * burstiness).toBeLessThan(1.07);
});

test('all at once, and evenly', () => {
  const draws = new Draws(0, 'arrivals');
  const [requestsPerSecond, burstiness] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  expect(arrivalSeconds(3, { requestsPerSecond, burstiness: 1 }, draws)).toEqual([0, 0, 0]);
  expect(arrivalSeconds(4, { requestsPerSecond: 2, burstiness }, draws)).toEqual([0.5, 1, 1.5, 2]);
});
