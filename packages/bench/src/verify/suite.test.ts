import { expect, test } from 'vitest';
import type { SuiteIo } from '../suite.ts';
import { VERIFY_SUITE } from './suite.ts';

const io: SuiteIo = { main: '', environment: {}, readFile: () => '', writeFile: () => undefined };
const run = () => {
  const values = { evidence: [], at: undefined, repeats: 1, parallel: 3, rounds: 2 };
  return VERIFY_SUITE.run(values, () => undefined, io);
};

test('what is made up is verified: once, again, and many at a time', async () => {
  const { runs } = await run();
  const shown = runs.map(({ parameters }) => {
    const { input, caches, parallel, verdict } = parameters;
    return `${input}: ${caches}, ${parallel}, ${verdict}`;
  });
  expect(shown).toEqual([
    'made-up board: cold, 1, verified',
    'made-up board: warm, 1, verified',
    'made-up TDX quote: cold, 1, verified',
    'made-up TDX quote: warm, 1, verified',
    'made-up service: cold, 1, verified',
    'made-up service: warm, 1, verified',
    'made-up service: warm, 3, verified',
  ]);
  for (const { metrics } of runs) {
    expect(metrics.verified).toBeGreaterThan(0);
    expect(metrics.refused).toBe(0);
    expect(metrics.elapsedMs).toBeGreaterThan(0);
  }
  expect(runs.at(-1)!.metrics.heapAfterBytes).toBeGreaterThan(0);
});
