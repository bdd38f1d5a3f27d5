import { expect, test } from 'vitest';
import { startSeconds, tiersLine } from './start-configured-engine.ts';

const FIRST = { loadSeconds: 20, prepareSeconds: 30.5 };

test.each([
  ['the first start has the timeout', 60, null, 60],
  ['one in its place has four times as long as it took', 60, FIRST, 202],
  ['or the timeout, where that is more', 300, FIRST, 300],
  ['without a timeout the first waits for ever', 0, null, 0],
  ['and so do the next', 0, FIRST, 0],
])('of starts that say nothing %s', (_, watchdogTimeout, first, seconds) => {
  expect(startSeconds({ watchdogTimeout }, first)).toBe(seconds);
});

test('the line on what leaves the device says how each store is divided', () => {
  const context = { part: 'context', bytes: 4096, places: [10, 1000, 5000] } as const;
  const window = { part: 'window', bytes: 1024, places: [10, 125, 600] } as const;
  const state = { part: 'state', bytes: 2 ** 20, places: [4, 12, 70] } as const;
  const hostBytes = 1e9;
  const plain = { kvParts: [context], pageTokens: 16 };
  expect(tiersLine({ hostBytes, disk: null }, plain)).toBe(
    'KV that leaves the device: 1.0 GB (16,000 tokens) of host memory. It is of this process: a ' +
      'restart begins with nothing',
  );
  const all = { kvParts: [context, window, state], pageTokens: 16 };
  expect(tiersLine({ hostBytes, disk: { folder: '/kv', bytes: 8e9 } }, all)).toContain(
    '1.0 GB (16,000 tokens, 2,000 in windows, 12 states) of host memory, and ' +
      '8.0 GB (80,000 tokens, 9,600 in windows, 70 states) on disk, encrypted',
  );
});
