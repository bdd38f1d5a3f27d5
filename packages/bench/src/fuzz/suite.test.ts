import { UsageError } from '@bridgekeeper/server';
import { expect, test } from 'vitest';
import type { SuiteIo } from '../suite.ts';
import { FUZZ_SUITE } from './suite.ts';

const io: SuiteIo = { main: '', environment: {}, readFile: () => '', writeFile: () => undefined };

async function run(target: string, inputs = 500) {
  const lines: string[] = [];
  const values = { inputs, seed: 1, target };
  const result = await FUZZ_SUITE.run(values, (line) => lines.push(line), io);
  return { ...result, lines };
}

test('one parser: every input is accounted for, and its code is reached', async () => {
  const { runs, failure, lines } = await run('XML');
  expect(failure).toBeUndefined();
  expect(lines).toHaveLength(1);
  const [total, parser, file] = runs;
  expect(runs).toHaveLength(3);
  expect(total!.parameters).toEqual({ target: 'all', seed: 1 });
  const { inputs, read, wronglyAccepted, crashed, ...rest } = parser!.metrics;
  expect([inputs, wronglyAccepted, crashed]).toEqual([500, 0, 0]);
  const refused = Object.entries(rest).filter(([name]) => name.startsWith('refused:'));
  expect(refused.reduce((sum, [, count]) => sum + count, read!)).toBe(500);
  expect(file!.parameters).toEqual({ module: 'attest/rim/xml' });
  expect(file!.metrics.lines).toBeGreaterThan(100);
  expect(file!.metrics.lineCoverage).toBeGreaterThan(0.8);
  expect(file!.metrics.lineCoverage).toBeLessThanOrEqual(1);
});

test('a parser that does not exist is said to', async () => {
  await expect(run('YAML')).rejects.toThrow(UsageError);
});
