import { expect, test } from 'vitest';
import { tableOf } from './table.ts';

test('a run leaves empty what only others have', () => {
  const run = (law: string, metrics: Record<string, number>) => ({
    parameters: { law },
    metrics,
    repeats: 1,
    spread: {},
  });
  const table = tableOf([run('off', { ttftMs: 12.34 }), run('b300-cc', { restoreMs: 283 })]);
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/));
  expect(rows).toEqual([
    ['law', 'ttftMs', 'restoreMs'],
    ['off', '12.3'],
    ['b300-cc', '283'],
  ]);
  expect(table).not.toContain('NaN');
});
