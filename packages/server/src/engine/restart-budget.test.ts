import { describe, expect, test } from 'vitest';
import { RestartBudget } from './restart-budget.ts';

const SECOND = 1e9;

describe('the budget of restarts', () => {
  test('gives so many in its window, each after a longer wait, and new ones as it moves', () => {
    const budget = new RestartBudget({ restarts: 3, windowSeconds: 600 });
    expect([0, 1, 2, 3].map((s) => budget.take(s * SECOND))).toEqual([0.1e9, 0.4e9, 1.6e9, null]);
    // What was refused is not counted.
    expect(budget.usedAt(599 * SECOND)).toBe(3);
    expect(budget.take(599 * SECOND)).toBeNull();
    expect(budget.take(600 * SECOND)).toBe(1.6e9);
    expect(budget.take(600.5 * SECOND)).toBeNull();
    // Long after trouble the first wait is short again.
    expect(budget.take(5000 * SECOND)).toBe(0.1e9);
  });

  test('waits half a minute at most, and with none gives none', () => {
    const many = new RestartBudget({ restarts: 20, windowSeconds: 600 });
    const waits = Array.from({ length: 20 }, () => many.take(0));
    expect(waits.at(-1)).toBe(30e9);
    expect(new RestartBudget({ restarts: 0, windowSeconds: 600 }).take(0)).toBeNull();
  });
});
