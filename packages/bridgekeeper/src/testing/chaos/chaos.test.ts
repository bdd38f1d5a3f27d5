import { expect, test } from 'vitest';
import { runChaos } from './chaos.ts';

// The long form, with all faults and for as long as is wanted: npm run chaos -- --seed 1.
test('a server whose device fails and that is killed keeps its promises', async () => {
  const result = await runChaos({
    seed: 1,
    seconds: 0,
    clients: 3,
    faults: ['device', 'kill'],
    tell: () => {},
  });
  expect(result.violations).toEqual([]);
  expect(result.faults).toEqual({ device: 1, kill: 1 });
  expect(result.answers.done).toBeGreaterThan(0);
  expect(result.receipts.checked).toBeGreaterThan(0);
}, 300_000);
