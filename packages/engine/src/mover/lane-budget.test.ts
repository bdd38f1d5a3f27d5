import { expect, test } from 'vitest';
import { LaneBudget, LaneMeter, lanePriceOf } from './lane-budget.ts';

test('spills keep to their share of the lane', () => {
  const budget = new LaneBudget(0.25, 0);
  let spentNs = 0;
  for (let nowNs = 0; nowNs <= 100e9; nowNs += 1e6) {
    while (budget.has(7e6, nowNs)) {
      budget.spend(7e6);
      spentNs += 7e6;
    }
  }
  // A second was saved at the start.
  expect(Math.abs(spentNs - 26e9)).toBeLessThan(7e6);
});

test('a spill that takes longer than can be saved waits for all that can be', () => {
  const budget = new LaneBudget(0.5, 0);
  expect(budget.has(3e9, 0)).toBe(true);
  budget.spend(3e9);
  // Two seconds are owed, and one is to be saved.
  expect(budget.has(3e9, 5.9e9)).toBe(false);
  expect(budget.has(3e9, 6e9)).toBe(true);
});

test('a price follows what crossings take', () => {
  const expected = lanePriceOf(null, 'pinned');
  const meter = new LaneMeter(expected);
  expect(meter.price('h2d', 1e6)).toBe(expected('h2d', 1e6));
  for (let i = 0; i < 80; i++) meter.observe('h2d', 1e6, 3 * expected('h2d', 1e6));
  expect(meter.price('h2d', 2e6)).toBeCloseTo(3 * expected('h2d', 2e6), -2);
  expect(meter.price('d2h', 2e6)).toBe(expected('d2h', 2e6));
  // One that was held up by something else is no reason to give the lane up.
  meter.observe('d2h', 1e6, 1e12);
  expect(meter.price('d2h', 1e6)).toBeLessThan(3 * expected('d2h', 1e6));
});
