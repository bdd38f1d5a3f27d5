import { expect, test } from 'vitest';
import { startSeconds } from './start-configured-engine.ts';

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
