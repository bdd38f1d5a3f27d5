import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Prediction } from '../simulate/prediction.ts';
import { explainSteps, fitSteps, type ObservedLoad } from './fit.ts';

const loadOf = (concurrency: number, stepNs: number): ObservedLoad => ({
  concurrency,
  requests: 8,
  failed: 0,
  promptTokensMean: 100,
  outputTokensMean: 64,
  stepNs,
  firstTokenNs: 1e7,
  outputTokensPerSecond: (concurrency * 1e9) / stepNs,
});

const predictionOf = (stepNs: number, hostNs: number) =>
  ({ tpotMs: { p50: stepNs / 1e6 }, step: { stepNs, hostNs, blockedNs: 0 } }) as Prediction;

test('finds the line that steps lie on, whatever it is', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 1e8 }),
      fc.integer({ min: 0, max: 1e7 }),
      (fixed, row) => {
        const loads = [1, 2, 4, 8].map((n) => loadOf(n, fixed + row * n));
        const fit = fitSteps(loads);
        expect(Math.abs(fit.fixedNs - fixed)).toBeLessThan(1);
        expect(Math.abs(fit.perRowNs - row)).toBeLessThan(1);
        for (const residual of fit.residuals) expect(Math.abs(residual)).toBeLessThan(1e-6);
      },
    ),
  );
});

test('one load that was disturbed moves nothing, and is the one that is not explained', () => {
  const loads = [1, 2, 4, 8, 16].map((n) => loadOf(n, (n === 4 ? 3 : 1) * (5e6 + 1e5 * n)));
  const { fixedNs, residuals } = fitSteps(loads);
  expect(Math.abs(fixedNs / 5e6 - 1)).toBeLessThan(0.1);
  expect(residuals[2]).toBeGreaterThan(0.6);
  expect(Math.abs(residuals[4]!)).toBeLessThan(0.1);
});

test('one load alone is all fixed', () => {
  expect(fitSteps([loadOf(1, 7e6)])).toEqual({ fixedNs: 7e6, perRowNs: 0, residuals: [0] });
});

test('what the machine does not explain is the host’s, and what neither does is said', () => {
  // The machine takes 4, 5 and 8 ms; the host 2 ms; at 8 there is 1 ms of something else.
  const loads = [loadOf(1, 6e6), loadOf(4, 7e6), loadOf(8, 11e6)];
  const predictions = [predictionOf(5e6, 1e6), predictionOf(6e6, 1e6), predictionOf(9e6, 1e6)];
  const explained = explainSteps(loads, predictions);
  expect(explained.hostNs).toBeCloseTo(2e6, 0);
  expect(explained.predictedHostNs).toBeCloseTo(1e6, 0);
  expect(explained.loads.map(({ unexplainedNs }) => Math.round(unexplainedNs))).toEqual([
    0, 0, 1e6,
  ]);
  expect(explained.worstPart).toBeCloseTo(1 / 11, 6);
});

test('a server that is faster than its prediction has no negative host', () => {
  const { hostNs, worstPart } = explainSteps([loadOf(1, 3e6)], [predictionOf(5e6, 1e6)]);
  expect(hostNs).toBe(0);
  expect(worstPart).toBeCloseTo(-1 / 3, 6);
});
