import { expect, test } from 'vitest';
import { SERVE_FLAGS, type ServeValues } from './flags.ts';
import { settleOptions } from './options.ts';
import { progressLine } from './progress.ts';
import { benchRun, failureLines, resultBlock } from './report.ts';
import { resultPath, savedResult } from './saved-result.ts';
import { statisticsOf } from './statistics.ts';

/** The flags' defaults, but for those given. */
function optionsWith(given: Partial<ServeValues>, apiKey?: string) {
  const defaults = Object.entries(SERVE_FLAGS).map(([name, { default: value }]) => [name, value]);
  return settleOptions({ ...Object.fromEntries(defaults), ...given } as ServeValues, apiKey);
}

const outcomes = [0, 1].map((index) => ({
  arrivedNs: 0,
  startedNs: index * 1e8,
  chunkNs: [2e8, 3e8, 4.5e8],
  completionTokens: 3,
  promptTokens: 1024,
  fault: undefined,
}));
const failed = { ...outcomes[0]!, chunkNs: [], fault: { reason: 'HTTP 429', detail: undefined } };
const run = { outcomes: [...outcomes, failed], durationNs: 2e9 };

// The lines of vllm bench serve: labels, order, columns and decimals.
const BLOCK = `
============ Serving Benchmark Result ============
Successful requests:                     2         |
Failed requests:                         1         |
Maximum request concurrency:             8         |
Request rate configured (RPS):           2.50      |
Benchmark duration (s):                  2.00      |
Total input tokens:                      2048      |
Total generated tokens:                  6         |
Request throughput (req/s):              1.00      |
Request goodput (req/s):                 0.50      |
Output token throughput (tok/s):         3.00      |
Peak output token throughput (tok/s):    6.00      |
Peak concurrent requests:                2.00      |
Total token throughput (tok/s):          1027.00   |
---------------Time to First Token----------------
Mean TTFT (ms):                          150.00    |
Median TTFT (ms):                        150.00    |
P50 TTFT (ms):                           150.00    |
P99.9 TTFT (ms):                         199.90    |
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          125.00    |
Median TPOT (ms):                        125.00    |
P50 TPOT (ms):                           125.00    |
P99.9 TPOT (ms):                         125.00    |
---------------Inter-token Latency----------------
Mean ITL (ms):                           125.00    |
Median ITL (ms):                         125.00    |
P50 ITL (ms):                            125.00    |
P99.9 ITL (ms):                          150.00    |
----------------End-to-end Latency----------------
Mean E2EL (ms):                          400.00    |
Median E2EL (ms):                        400.00    |
P50 E2EL (ms):                           400.00    |
P99.9 E2EL (ms):                         449.90    |
---------------Client-side Queueing---------------
Mean Client Queue Time (ms):             50.00     |
Median Client Queue Time (ms):           50.00     |
P50 Client Queue Time (ms):              50.00     |
P99.9 Client Queue Time (ms):            99.90     |
--------Queue-inclusive End-to-end Latency--------
Mean E2EL incl. Client Queue (ms):       450.00    |
Median E2EL incl. Client Queue (ms):     450.00    |
P50 E2EL incl. Client Queue (ms):        450.00    |
P99.9 E2EL incl. Client Queue (ms):      450.00    |
==================================================
`;

test('the block is the one that scripts read', () => {
  const options = optionsWith({
    maxConcurrency: 8,
    requestRate: 2.5,
    goodput: [
      ['ttft', 150],
      ['e2el', 1000],
    ],
    metricPercentiles: [50, 99.9],
    percentileMetrics: [
      'e2el',
      'ttft',
      'tpot',
      'itl',
      'client_queue_time',
      'e2el_including_client_queue',
    ],
  });
  const statistics = statisticsOf(run, options.values.metricPercentiles, options.goodput);
  expect(resultBlock(statistics, options)).toBe(BLOCK.trim().replaceAll('|', ''));
});

test('lines without a meaning are left out', () => {
  const options = optionsWith({ percentileMetrics: ['ttft', 'client_queue_time'] });
  const block = resultBlock(statisticsOf(run, [99], {}), options);
  expect(block).not.toMatch(/Maximum|configured|goodput|TPOT|Queue/);
  expect(block).toMatch(/P99 TTFT/);
});

test("a saved result has vLLM's keys, and its own only without prompts", () => {
  const options = optionsWith({
    saveDetailed: true,
    maxConcurrency: 4,
    requestRate: 10,
    metadata: [
      ['peer', 'vllm'],
      ['note', 'a=b'],
    ],
    tokenizer: '/models/tiny/',
    resultDir: 'out/',
  });
  const statistics = statisticsOf(run, options.values.metricPercentiles, options.goodput);
  const saved = {
    model: 'org/tiny',
    startedAt: new Date(Date.UTC(2026, 10, 3, 4, 5, 6)),
    run,
    statistics,
  };
  expect(savedResult(saved, options)).toMatchObject({
    date: '20261103-040506',
    endpoint_type: 'openai',
    model_id: 'org/tiny',
    tokenizer_id: 'tiny',
    num_prompts: 1000,
    request_rate: 10,
    burstiness: 1,
    max_concurrency: 4,
    duration: 2,
    completed: 2,
    failed: 1,
    total_input_tokens: 2048,
    total_output_tokens: 6,
    request_throughput: 1,
    request_goodput: null,
    output_throughput: 3,
    total_token_throughput: 1027,
    max_output_tokens_per_s: 6,
    max_concurrent_requests: 2,
    peer: 'vllm',
    note: 'a=b',
    mean_ttft_ms: 150,
    median_tpot_ms: 125,
    std_itl_ms: 25,
    p99_itl_ms: 150,
    input_lens: [1024, 1024, 1024],
    output_lens: [3, 3, 0],
    errors: ['', '', 'HTTP 429'],
  });
  expect(resultPath(saved, options)).toBe(
    'out/openai-10.0qps-concurrency4-tiny-20261103-040506.json',
  );
  const plain = savedResult(saved, optionsWith({}));
  expect(plain).toMatchObject({ request_rate: 'inf', max_concurrency: null, tokenizer_id: null });
  expect(plain).not.toHaveProperty('itls');
  expect(resultPath(saved, optionsWith({ label: 'x' }))).toBe('x-infqps-tiny-20261103-040506.json');
});

test('the house shape has units in its names, and the metadata among the parameters', () => {
  const options = optionsWith({ metadata: [['peer', 'vllm']], goodput: [['tpot', 1]] });
  const result = benchRun(statisticsOf(run, [99], options.goodput), options, 'tiny');
  expect(result.parameters).toMatchObject({
    url: 'http://127.0.0.1:8000/v1/completions',
    dataset: 'random',
    inputTokensOfRequest: 1024,
    requestRate: 'inf',
    concurrency: null,
    peer: 'vllm',
  });
  expect(result.metrics).toMatchObject({
    outputTokensPerSecond: 3,
    goodRequestsPerSecond: 0,
    tokensPerChunk: 1,
    ttftMsP50: 150,
    itlMsP99: 150,
  });
});

test('failures are counted by reason, with an example', () => {
  const fault = (reason: string, detail?: string) => ({ ...failed, fault: { reason, detail } });
  const faults = [fault('HTTP 400: too_long', 'at 9'), fault('hang'), fault('HTTP 400: too_long')];
  expect(failureLines(faults)).toEqual([
    'failed: 2 x HTTP 400: too_long (at 9)',
    'failed: 1 x hang',
  ]);
  const many = Array.from({ length: 12 }, (_, index) => fault(`reason ${index}`));
  expect(failureLines(many)).toHaveLength(11);
});

test('progress', () => {
  const counts = { requests: 48, done: 12, failed: 1, chunks: 1312, seconds: 3.2 };
  const bar = '[######------------------]';
  expect(progressLine(counts)).toBe(`${bar} 12/48 requests, 1 failed, 3.2 s, 410 chunks/s`);
});

test('flags that do not fit are refused', () => {
  const trace = { datasetName: 'timed_trace', datasetPath: 'x' } as const;
  for (const [given, message] of [
    [{ baseUrl: 'localhost:8000' }, /--base-url/],
    [{ baseUrl: 'http://me:secret@host' }, /credentials/],
    [{ backend: 'openai-chat', endpoint: '/v1/completions', tokenizer: 'x' }, /chat\/completions/],
    [{ backend: 'openai-chat' }, /--tokenizer/],
    [{ datasetPath: 'x' }, /random has no file/],
    [{ datasetName: 'custom' }, /custom needs one/],
    [{ selfTimed: true }, /only timed_trace/],
    [{ ...trace, backend: 'openai-chat' }, /token ids/],
  ] as const) {
    expect(() => optionsWith(given)).toThrow(message);
  }
});

test.each([
  ['goodput', 'itl:3'],
  ['goodput', 'ttft:'],
  ['goodput', 'ttft'],
  ['metricPercentiles', '101'],
  ['percentileMetrics', 'latency'],
  ['extraBody', '[]'],
  ['extraBody', '{'],
  ['header', 'A B=c'],
  ['header', 'A=b\nc'],
  ['metadata', '=c'],
  ['requestRate', '0'],
] as const)('%s is not %j', (name, text) => {
  expect(SERVE_FLAGS[name].kind.parse(text)).toBe(undefined);
});

test('what follows from the flags', () => {
  const options = optionsWith(
    {
      baseUrl: 'https://host/prefix/',
      backend: 'openai-chat',
      datasetName: 'custom',
      datasetPath: 'x',
      topK: 3,
      extraBody: { seed: 1, top_k: 4 },
      header: ['authorization=Basic x=', 'X-Team=a b'].flatMap(
        (text) => SERVE_FLAGS.header.kind.parse(text)!,
      ),
    },
    'key',
  );
  expect(options.url.href).toBe('https://host/prefix/v1/chat/completions');
  expect(options.headers).toEqual({ Authorization: 'Basic x=', 'X-Team': 'a b' });
  expect(options.extraBody).toEqual({ top_k: 4, seed: 1 });
  expect([options.ignoreEos, options.isSelfTimed]).toEqual([false, false]);
  const trace = optionsWith({ datasetName: 'timed_trace', datasetPath: 'x' }, 'key');
  expect([trace.ignoreEos, trace.isSelfTimed]).toEqual([true, true]);
  expect(trace.headers).toEqual({ Authorization: 'Bearer key' });
  expect(optionsWith({ host: '::1' }).url.href).toBe('http://[::1]:8000/v1/completions');
  expect(SERVE_FLAGS.requestRate.kind.parse('inf')).toBe(Number.POSITIVE_INFINITY);
  expect(SERVE_FLAGS.customOutputLen.kind.parse('-1')).toBe(-1);
});
