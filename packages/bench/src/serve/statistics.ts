import { type Distribution, distributionOf } from '@bridgekeeper/report';
import type { Outcome, RunOutcome } from './outcome.ts';

/**
 * The latencies that vllm bench serve reports, by its names: to the first chunk; per output token
 * after the first; between chunks; to the last chunk; and what waiting for --max-concurrency adds.
 */
export const LATENCY_NAMES = [
  'ttft',
  'tpot',
  'itl',
  'e2el',
  'client_queue_time',
  'e2el_including_client_queue',
] as const;
export type LatencyName = (typeof LATENCY_NAMES)[number];

/** Service level objectives in milliseconds: a good request keeps all of them. */
export type Goodput = Readonly<Partial<Record<'ttft' | 'tpot' | 'e2el', number>>>;

/** One request in seconds, as --save-detailed lists it. Zeros where it failed. */
export interface RequestTimes {
  readonly ttft: number;
  readonly itl: readonly number[];
  readonly latency: number;
  readonly queued: number;
  readonly outputTokens: number;
}

export interface ServeStatistics {
  readonly durationSeconds: number;
  readonly completed: number;
  readonly failed: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Chunks that carried them. */
  readonly chunks: number;
  /** Completed requests that kept every objective. */
  readonly good: number;
  /** Output tokens of the second with the most, counting from the first request's start. */
  readonly peakTokensPerSecond: number;
  readonly peakConcurrency: number;
  /** Milliseconds. */
  readonly latencies: Readonly<Record<LatencyName, Distribution>>;
  /** In the order of the outcomes. */
  readonly requests: readonly RequestTimes[];
}

/** What a run comes to, with vLLM's definitions. */
export function statisticsOf(
  { outcomes, durationNs }: RunOutcome,
  percentiles: readonly number[],
  goodput: Goodput,
): ServeStatistics {
  const requests = outcomes.map(timesOf);
  const isDone = (_: unknown, index: number) => outcomes[index]!.fault === undefined;
  const done = outcomes.filter(isDone);
  const times = requests.filter(isDone);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const summary = (seconds: readonly number[]) =>
    distributionOf(
      seconds.map((value) => value * 1000),
      percentiles,
    );
  return {
    durationSeconds: durationNs / 1e9,
    completed: done.length,
    failed: outcomes.length - done.length,
    inputTokens: sum(done.map(({ promptTokens }) => promptTokens ?? 0)),
    outputTokens: sum(times.map(({ outputTokens }) => outputTokens)),
    chunks: sum(done.map(({ chunkNs }) => chunkNs.length)),
    good: times.filter((time) => isGood(time, goodput)).length,
    peakTokensPerSecond: peakTokens(done, times),
    peakConcurrency: peakConcurrency(done),
    latencies: {
      ttft: summary(times.map(({ ttft }) => ttft)),
      tpot: summary(times.filter(({ outputTokens }) => outputTokens > 1).map(tpotOf)),
      itl: summary(times.flatMap(({ itl }) => itl)),
      e2el: summary(times.map(({ latency }) => latency)),
      client_queue_time: summary(times.map(({ queued }) => queued)),
      e2el_including_client_queue: summary(times.map((time) => time.latency + time.queued)),
    },
    requests,
  };
}

function timesOf(outcome: Outcome): RequestTimes {
  const { arrivedNs, startedNs, chunkNs, completionTokens, fault } = outcome;
  const queued = (startedNs - arrivedNs) / 1e9;
  if (fault !== undefined) return { ttft: 0, itl: [], latency: 0, queued, outputTokens: 0 };
  return {
    ttft: (chunkNs[0]! - startedNs) / 1e9,
    itl: chunkNs.slice(1).map((atNs, index) => (atNs - chunkNs[index]!) / 1e9),
    latency: (chunkNs.at(-1)! - startedNs) / 1e9,
    queued,
    // Where the server does not count, a chunk is taken for a token.
    outputTokens: completionTokens || chunkNs.length,
  };
}

/** Seconds per output token after the first; 0 where there is no other. */
function tpotOf({ latency, ttft, outputTokens }: RequestTimes): number {
  return outputTokens > 1 ? (latency - ttft) / (outputTokens - 1) : 0;
}

function isGood(times: RequestTimes, goodput: Goodput): boolean {
  const { ttft = Number.POSITIVE_INFINITY, tpot = Number.POSITIVE_INFINITY } = goodput;
  const { e2el = Number.POSITIVE_INFINITY } = goodput;
  return times.ttft * 1000 <= ttft && tpotOf(times) * 1000 <= tpot && times.latency * 1000 <= e2el;
}

/**
 * vLLM counts chunks here. A server may put several tokens into one: each chunk of a request counts
 * for an equal part of its tokens, which is the same where each brings one.
 */
function peakTokens(done: readonly Outcome[], times: readonly RequestTimes[]): number {
  const firstNs = done.reduce((first, { startedNs }) => Math.min(first, startedNs), Infinity);
  const bySecond = new Map<number, number>();
  for (const [index, { chunkNs }] of done.entries()) {
    const tokensPerChunk = times[index]!.outputTokens / chunkNs.length;
    for (const atNs of chunkNs) {
      const second = Math.floor((atNs - firstNs) / 1e9);
      bySecond.set(second, (bySecond.get(second) ?? 0) + tokensPerChunk);
    }
  }
  return [...bySecond.values()].reduce((peak, tokens) => Math.max(peak, tokens), 0);
}

/** The most requests open at one moment; one that ends as another starts is not counted with it. */
function peakConcurrency(done: readonly Outcome[]): number {
  const changes = done.flatMap(({ startedNs, chunkNs }) => [
    { atNs: startedNs, by: 1 },
    { atNs: chunkNs.at(-1)!, by: -1 },
  ]);
  changes.sort((a, b) => a.atNs - b.atNs || a.by - b.by);
  let open = 0;
  let peak = 0;
  for (const { by } of changes) {
    open += by;
    peak = Math.max(peak, open);
  }
  return peak;
}
