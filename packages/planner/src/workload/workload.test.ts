import { describe, expect, test } from 'vitest';
import { PlanError } from '../errors.ts';
import { isSpec, readSpec, specWorkload } from './spec.ts';
import { readTrace, traceWorkload } from './trace.ts';
import { summariseWorkload } from './workload.ts';

function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof PlanError && error.code === 'bad-workload') return error.message;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a load in words', () => {
  test('says when requests come and how long they are', () => {
    expect(readSpec('4 req/s, 1024+128')).toMatchObject({
      arrivals: { kind: 'open', requestsPerSecond: 4, burstiness: 1 },
      prompt: { kind: 'fixed', tokens: 1024 },
      output: { kind: 'fixed', tokens: 128 },
      requests: 480,
    });
    expect(readSpec('32 at a time, 512..2048+64~0.5, 100 requests')).toMatchObject({
      arrivals: { kind: 'closed', concurrency: 32 },
      prompt: { kind: 'uniform', low: 512, high: 2048 },
      output: { kind: 'spread', mean: 64, variation: 0.5 },
      requests: 100,
    });
    expect(readSpec('90 req/min, even, for 2 min, 10+10').requests).toBe(180);
    expect(readSpec('0.01 req/s, 10+10').requests).toBe(60);
  });

  test.each([
    ['4 req/parsec, 1024+128', /"4 req\/parsec" is in no unit of time: s, sec/],
    ['0 req/s, 1024+128', /above 0/],
    ['4 req/s, 0+128', /two lengths from 1/],
    ['4 req/s, 2000..1000+128', /two lengths/],
    ['4 req/s, 1024+128, quickly', /"quickly" is not understood/],
    ['4 req/s', /how long they are/],
    ['1024+128', /when requests come/],
    ['8 at a time, 1024+128, for 5 s', /closed loop/],
    ['4 req/s, 1+1, for 5 furlongs', /no unit of time/],
    ['100000 req/s, 1+1, for 1 h', /360000000 requests; a plan takes 1 to 1000000/],
    ['0 at a time, 1+1', /from 1 to 65536/],
  ])('%s is refused', (text, message) => {
    expect(messageOf(() => readSpec(text))).toMatch(message);
  });

  test('is told from the name of a file', () => {
    expect(['4 req/s, 1+1', '32 at a time, 1+1'].map(isSpec)).toEqual([true, true]);
    expect(['trace.jsonl', '4.jsonl', '2023/azure.csv'].map(isSpec)).toEqual([false, false, false]);
  });

  test('makes the same requests for the same seed, at the rate and lengths that it says', () => {
    const spec = readSpec('10 req/s, 1000~0.5+20..60, 4000 requests');
    const load = specWorkload(spec, 7);
    expect(specWorkload(spec, 7)).toEqual(load);
    expect(specWorkload(spec, 8)).not.toEqual(load);
    const summary = summariseWorkload(load);
    expect(summary.requestsPerSecond!).toBeCloseTo(10, 0);
    expect(Math.abs(summary.promptTokensMean / 1000 - 1)).toBeLessThan(0.05);
    expect(Math.abs(summary.outputTokensMean / 40 - 1)).toBeLessThan(0.05);
    expect(summary.outputTokensMax).toBeLessThanOrEqual(60);
    expect(load.requests[0]!.atNs).toBe(0);
  });

  test('shares prefixes within groups', () => {
    const spec = readSpec('1 req/s, 64+8, prefix 640 of 4, 400 requests');
    // Ten of eleven chunks are the group's, and four of the 400 are the first of theirs.
    const summary = summariseWorkload(specWorkload(spec, 1));
    expect(summary.sharedFraction).toBeCloseTo((10 / 11) * 0.99, 2);
    expect(summary.promptTokensMean).toBe(704);
  });
});

const MOONCAKE = [
  '{"timestamp": 3000, "input_length": 1000, "output_length": 5, "hash_ids": [1, 3]}',
  '',
  '{"timestamp": 1000, "input_length": 512, "output_length": 0, "hash_ids": [1]}',
].join('\n');

describe('a trace', () => {
  const options = { where: 'trace.jsonl' };

  test('is ordered by time, and begins at 0', () => {
    const records = readTrace(MOONCAKE, options);
    const load = traceWorkload('t', records, { requests: 10, chunkTokens: 512 });
    expect(load.requests).toEqual([
      { atNs: 0, promptTokens: 512, outputTokens: 1, chunks: [1], tenant: 'trace' },
      { atNs: 2e9, promptTokens: 1000, outputTokens: 5, chunks: [1, 3], tenant: 'trace' },
    ]);
    expect(summariseWorkload(load).sharedFraction).toBeCloseTo(1 / 3);
  });

  test('may be Azure’s table, or our own lines with tenants', () => {
    const azure = 'TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.98,10,2\r\n';
    expect(readTrace(azure, options)).toMatchObject([{ inputTokens: 10, outputTokens: 2 }]);
    const own = '{"atSeconds": 0.5, "promptTokens": 10, "outputTokens": 2, "tenant": "a"}';
    expect(readTrace(own, options)).toMatchObject([{ atSeconds: 0.5, tenant: 'a' }]);
  });

  test.each([
    ['{"timestamp": 0}', /line 1: input_length must be a number from 0/],
    [`${MOONCAKE}\n{"timestamp": "now"}`, /line 4: timestamp must be a number/],
    ['{"timestamp": 0,', /line 1: is not JSON/],
    ['{"when": 0}', /line 1: has no time: timestamp or atSeconds/],
    ['{"timestamp": -1, "input_length": 1, "output_length": 1}', /line 1: timestamp must be/],
    ['{"timestamp": 0, "input_length": 1e12, "output_length": 1}', /input_length must be/],
    ['a,b\n1,2', /line 1: neither JSON lines nor a table/],
    ['TIMESTAMP,ContextTokens,GeneratedTokens\nsoon,1,1', /line 2: needs a time/],
    ['TIMESTAMP,ContextTokens,GeneratedTokens\n1,1,1\n2,-1,1', /line 3: needs a time/],
    ['{"atSeconds": 0, "promptTokens": 1, "outputTokens": 1, "tenant": 5}', /tenant must be/],
  ])('%s is refused with its line', (text, message) => {
    const refusal = messageOf(() => readTrace(text, options));
    expect(refusal).toMatch(message);
    expect(refusal).toContain('trace.jsonl, line');
  });

  test('with ids for chunks of another size is refused', () => {
    const records = readTrace(MOONCAKE, options);
    const action = () => traceWorkload('t', records, { requests: 10, chunkTokens: 64 });
    expect(messageOf(action)).toMatch(/has 1 hash ids, which is not what chunks of 64 give/);
  });
});
