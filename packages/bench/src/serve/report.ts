import type { Distribution, MeasuredRun } from '@bridgekeeper/report';
import type { ServeOptions } from './options.ts';
import type { Fault, Outcome } from './outcome.ts';
import type { LatencyName, ServeStatistics } from './statistics.ts';

const BLOCK_COLUMNS = 50;
const LABEL_COLUMNS = 40;
const VALUE_COLUMNS = 10;

/** How vllm bench serve heads and names each latency. */
const LATENCY_LABELS: Readonly<Record<LatencyName, readonly [heading: string, name: string]>> = {
  ttft: ['Time to First Token', 'TTFT'],
  tpot: ['Time per Output Token (excl. 1st token)', 'TPOT'],
  itl: ['Inter-token Latency', 'ITL'],
  e2el: ['End-to-end Latency', 'E2EL'],
  client_queue_time: ['Client-side Queueing', 'Client Queue Time'],
  e2el_including_client_queue: ['Queue-inclusive End-to-end Latency', 'E2EL incl. Client Queue'],
};

/**
 * The block that vllm bench serve ends with: its labels, order, columns and roundings, which
 * scripts read.
 */
export function resultBlock(statistics: ServeStatistics, options: ServeOptions): string {
  const { values, goodput } = options;
  const { maxConcurrency: limit, requestRate: rate } = values;
  const rates = ratesOf(statistics);
  const lines = [
    centred(' Serving Benchmark Result ', '='),
    row('Successful requests:', String(statistics.completed)),
    row('Failed requests:', String(statistics.failed)),
    ...(limit === undefined ? [] : [row('Maximum request concurrency:', String(limit))]),
    ...(Number.isFinite(rate) ? [row('Request rate configured (RPS):', rate.toFixed(2))] : []),
    row('Benchmark duration (s):', statistics.durationSeconds.toFixed(2)),
    row('Total input tokens:', String(statistics.inputTokens)),
    row('Total generated tokens:', String(statistics.outputTokens)),
    row('Request throughput (req/s):', rates.requestsPerSecond.toFixed(2)),
    ...(Object.keys(goodput).length === 0
      ? []
      : [row('Request goodput (req/s):', rates.goodRequestsPerSecond.toFixed(2))]),
    row('Output token throughput (tok/s):', rates.outputTokensPerSecond.toFixed(2)),
    row('Peak output token throughput (tok/s):', statistics.peakTokensPerSecond.toFixed(2)),
    row('Peak concurrent requests:', statistics.peakConcurrency.toFixed(2)),
    row('Total token throughput (tok/s):', rates.totalTokensPerSecond.toFixed(2)),
  ];
  for (const name of shownLatencies(options)) {
    const [heading, label] = LATENCY_LABELS[name];
    const { mean, median, percentiles } = statistics.latencies[name];
    lines.push(
      centred(heading, '-'),
      row(`Mean ${label} (ms):`, mean.toFixed(2)),
      row(`Median ${label} (ms):`, median.toFixed(2)),
      ...percentiles.map(([percent, ms]) => row(`P${percent} ${label} (ms):`, ms.toFixed(2))),
    );
  }
  return [...lines, '='.repeat(BLOCK_COLUMNS)].join('\n');
}

/** Those asked for that mean something: waiting for a place needs places to be limited. */
export function shownLatencies({ values }: ServeOptions): LatencyName[] {
  const isLimited = values.maxConcurrency !== undefined;
  const isPaced = Number.isFinite(values.requestRate);
  return (Object.keys(LATENCY_LABELS) as LatencyName[]).filter((name) => {
    if (name === 'client_queue_time' && !isLimited) return false;
    if (name === 'e2el_including_client_queue' && !(isLimited && isPaced)) return false;
    return values.percentileMetrics.includes(name);
  });
}

function centred(text: string, fill: string): string {
  const left = Math.floor((BLOCK_COLUMNS - text.length) / 2);
  return text.padStart(text.length + left, fill).padEnd(BLOCK_COLUMNS, fill);
}

function row(label: string, value: string): string {
  return `${label.padEnd(LABEL_COLUMNS)} ${value.padEnd(VALUE_COLUMNS)}`;
}

function ratesOf(statistics: ServeStatistics) {
  const { completed, good, inputTokens, outputTokens, durationSeconds } = statistics;
  const perSecond = (count: number) => (durationSeconds > 0 ? count / durationSeconds : 0);
  return {
    requestsPerSecond: perSecond(completed),
    goodRequestsPerSecond: perSecond(good),
    outputTokensPerSecond: perSecond(outputTokens),
    totalTokensPerSecond: perSecond(inputTokens + outputTokens),
  };
}

/** The run in the house's own shape. */
export function benchRun(
  statistics: ServeStatistics,
  options: ServeOptions,
  model: string,
): MeasuredRun {
  const { values, goodput, metadata } = options;
  const rate = values.requestRate;
  const isRandom = values.datasetName === 'random';
  const { goodRequestsPerSecond, ...rates } = ratesOf(statistics);
  return {
    parameters: {
      url: options.url.href,
      backend: values.backend,
      model,
      dataset: values.datasetName,
      requests: statistics.completed + statistics.failed,
      ...(isRandom
        ? {
            inputTokensOfRequest: values.inputLen ?? values.randomInputLen,
            outputTokensOfRequest: values.outputLen ?? values.randomOutputLen,
            rangeRatio: values.randomRangeRatio,
            prefixTokens: values.randomPrefixLen,
          }
        : {}),
      requestRate: options.isSelfTimed ? 'trace' : Number.isFinite(rate) ? rate : 'inf',
      burstiness: Number.isFinite(values.burstiness) ? values.burstiness : 'inf',
      concurrency: values.maxConcurrency ?? null,
      seed: values.seed,
      ...metadata,
    },
    metrics: {
      completedRequests: statistics.completed,
      failedRequests: statistics.failed,
      durationSeconds: statistics.durationSeconds,
      inputTokens: statistics.inputTokens,
      outputTokens: statistics.outputTokens,
      ...rates,
      ...(Object.keys(goodput).length === 0 ? {} : { goodRequestsPerSecond }),
      peakOutputTokensPerSecond: statistics.peakTokensPerSecond,
      peakConcurrentRequests: statistics.peakConcurrency,
      tokensPerChunk: statistics.outputTokens / Math.max(1, statistics.chunks),
      ...latencyMetrics('ttftMs', statistics.latencies.ttft),
      ...latencyMetrics('tpotMs', statistics.latencies.tpot),
      ...latencyMetrics('itlMs', statistics.latencies.itl),
      ...latencyMetrics('e2elMs', statistics.latencies.e2el),
      ...latencyMetrics('clientQueueMs', statistics.latencies.client_queue_time),
    },
    repeats: 1,
    spread: {},
  };
}

function latencyMetrics(name: string, summary: Distribution): Record<string, number> {
  return {
    [`${name}Mean`]: summary.mean,
    [`${name}P50`]: summary.median,
    [`${name}Std`]: summary.std,
    ...Object.fromEntries(summary.percentiles.map(([p, ms]) => [`${name}P${p}`, ms])),
  };
}

/** Reasons that are told apart before the rest is only counted. */
const REASONS_MAX = 10;

/** Why requests failed, the most frequent reasons first, each with an example. */
export function failureLines(outcomes: readonly Outcome[]): string[] {
  const byReason = new Map<string, Fault[]>();
  for (const { fault } of outcomes) {
    if (fault === undefined) continue;
    const same = byReason.get(fault.reason) ?? [];
    byReason.set(fault.reason, same);
    same.push(fault);
  }
  const sorted = [...byReason.values()].sort((a, b) => b.length - a.length);
  const lines = sorted
    .slice(0, REASONS_MAX)
    .map((faults) => `failed: ${faults.length} x ${faultText(faults[0]!)}`);
  const more = sorted.length - lines.length;
  return more > 0 ? [...lines, `failed: for ${more} other reasons too`] : lines;
}

export function faultText({ reason, detail }: Fault): string {
  return detail === undefined ? reason : `${reason} (${detail})`;
}
