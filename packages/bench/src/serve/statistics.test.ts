import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Outcome } from './outcome.ts';
import { type LatencyName, statisticsOf } from './statistics.ts';

/** An outcome with times in milliseconds from the start of the run. */
function outcome(arrived: number, started: number, chunks: number[], more: Partial<Outcome> = {}) {
  const ns = (milliseconds: number) => milliseconds * 1e6;
  return {
    arrivedNs: ns(arrived),
    startedNs: ns(started),
    chunkNs: chunks.map(ns),
    completionTokens: undefined,
    promptTokens: 10,
    fault: undefined,
    ...more,
  };
}
const fault = { reason: 'HTTP 500', detail: undefined };

describe('statistics by hand', () => {
  const outcomes = [
    // 4 tokens in 3 chunks: TTFT 100, ITL 20 and 40, E2EL 160, TPOT 60 / 3.
    outcome(0, 0, [100, 120, 160], { completionTokens: 4 }),
    // Nobody counted: a chunk is a token. It waited 10 and ends as the next one starts.
    outcome(190, 200, [500, 600], { promptTokens: undefined }),
    // One token has no time per further token.
    outcome(600, 600, [1900], { completionTokens: 1 }),
    outcome(0, 0, [50], { fault }),
  ];
  const statistics = statisticsOf({ outcomes, durationNs: 2e9 }, [0, 50, 90, 100], {
    ttft: 1300,
    tpot: 50,
  });

  test('counts', () => {
    expect(statistics).toMatchObject({
      durationSeconds: 2,
      completed: 3,
      failed: 1,
      inputTokens: 20,
      outputTokens: 7,
      chunks: 6,
      good: 2,
      // The first second has the 4 tokens of three chunks and two more.
      peakTokensPerSecond: 6,
      peakConcurrency: 1,
    });
    expect(statistics.requests[3]).toEqual({
      ttft: 0,
      itl: [],
      latency: 0,
      queued: 0,
      outputTokens: 0,
    });
  });

  test.each<[LatencyName, number[], number]>([
    ['ttft', [100, 300, 1300], 1700 / 3],
    ['tpot', [20, 100], 60],
    ['itl', [20, 40, 100], 160 / 3],
    ['e2el', [160, 400, 1300], 1860 / 3],
    ['client_queue_time', [0, 0, 10], 10 / 3],
    ['e2el_including_client_queue', [160, 410, 1300], 1870 / 3],
  ])('%s', (name, values, mean) => {
    const { percentiles, median, std, ...summary } = statistics.latencies[name];
    expect(summary.mean).toBeCloseTo(mean, 9);
    const middle = values.length === 3 ? values[1]! : (values[0]! + values[1]!) / 2;
    expect(median).toBeCloseTo(middle, 9);
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(std).toBeCloseTo(Math.sqrt(variance), 9);
    const [p0, p50, p90, p100] = percentiles.map(([, milliseconds]) => milliseconds);
    expect([p0, p100]).toEqual([expect.closeTo(values[0]!, 9), expect.closeTo(values.at(-1)!, 9)]);
    expect(p50).toBe(median);
    const last = values.length - 1;
    // Between the closest ranks, as numpy does it by default.
    const below = Math.floor(0.9 * last);
    const between = 0.9 * last - below;
    const ninety = values[below]! + (values[below + 1]! - values[below]!) * between;
    expect(p90).toBeCloseTo(ninety, 9);
  });
});

test('nothing done is zeros, and no division by them', () => {
  const { latencies, ...counts } = statisticsOf(
    { outcomes: [outcome(0, 0, [], { fault })], durationNs: 1e9 },
    [99],
    {},
  );
  expect(counts).toMatchObject({ completed: 0, failed: 1, outputTokens: 0, peakConcurrency: 0 });
  const zeros = { mean: 0, median: 0, std: 0, percentiles: [[99, 0]] };
  for (const latency of Object.values(latencies)) expect(latency).toEqual(zeros);
});

test('a request is as long as its parts, and tokens are kept however they are chunked', () => {
  const some = fc.record({
    start: fc.nat(5000),
    gaps: fc.array(fc.nat(900), { minLength: 1, maxLength: 20 }),
    extra: fc.nat(30),
  });
  fc.assert(
    fc.property(fc.array(some, { minLength: 1, maxLength: 12 }), (requests) => {
      const outcomes = requests.map(({ start, gaps, extra }) => {
        let at = start;
        const chunks = gaps.map((gap) => {
          at += gap;
          return at;
        });
        return outcome(start, start, chunks, { completionTokens: gaps.length + extra });
      });
      const statistics = statisticsOf({ outcomes, durationNs: 1e10 }, [50], { e2el: 1e9 });
      for (const { ttft, itl, latency } of statistics.requests) {
        expect(ttft + itl.reduce((sum, gap) => sum + gap, 0)).toBeCloseTo(latency, 6);
      }
      const { outputTokens, peakTokensPerSecond, peakConcurrency, good } = statistics;
      expect(good).toBe(requests.length);
      expect(peakTokensPerSecond).toBeLessThanOrEqual(outputTokens + 1e-6);
      // Some second has at least its share.
      expect(peakTokensPerSecond).toBeGreaterThanOrEqual(outputTokens / 25);
      expect(peakConcurrency).toBeLessThanOrEqual(requests.length);
    }),
  );
});
