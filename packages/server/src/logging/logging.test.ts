import { expect, test } from 'vitest';
import { SyntheticEngine } from '../engine/synthetic-engine.ts';
import { prettyLine } from './logger.ts';
import { readableBytes, summarise } from './summary.ts';

test('a pretty line shows time, level, message and fields', () => {
  const json = JSON.stringify({ level: 30, time: 0, code: 'x', n: 2, msg: 'hello' });
  expect(prettyLine(json, false)).toBe('00:00:00 INFO  hello  code=x  n=2\n');
  expect(prettyLine(json, true)).toContain('\u001b[32mINFO ');
});

test('a summary tells rates between two looks, and idleness', () => {
  const before = new SyntheticEngine().stats();
  const after = {
    ...before,
    promptTokens: 100,
    generatedTokens: 50,
    prefixQueriedTokens: 80,
    prefixHitTokens: 20,
    running: 3,
    waiting: 1,
    kvUsage: 0.255,
    bridge: {
      ...before.bridge,
      totals: [
        {
          purpose: 'command',
          direction: 'h2d',
          crossings: 1,
          bytes: 3e6,
          busyNs: 0,
          blockedNs: 1e9,
        },
        { purpose: 'tokens', direction: 'd2h', crossings: 1, bytes: 500, busyNs: 0, blockedNs: 0 },
      ],
    },
  };
  const { text, idle } = summarise(before, after, 2);
  expect(text).toBe(
    'prompt 50.0 tok/s, generation 25.0 tok/s, running 3, waiting 1, KV 25.5%, ' +
      'prefix hits 25.0%, bridge H2D 1.5 MB/s, D2H 250 B/s, blocked 50.0%',
  );
  expect(idle).toBe(false);
  expect(summarise(before, before, 2).idle).toBe(true);
  expect(readableBytes(0)).toBe('0 B');
});
