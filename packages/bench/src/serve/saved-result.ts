import type { ServeOptions } from './options.ts';
import type { RunOutcome } from './outcome.ts';
import { faultText, shownLatencies } from './report.ts';
import type { ServeStatistics } from './statistics.ts';

export interface SavedRun {
  readonly model: string;
  readonly startedAt: Date;
  readonly run: RunOutcome;
  readonly statistics: ServeStatistics;
}

/**
 * The document that vllm bench serve saves, by its keys, so that scripts that read those files read
 * ours. Answers are not kept: `generated_texts` is missing from detailed ones.
 */
export function savedResult(saved: SavedRun, options: ServeOptions): Record<string, unknown> {
  const { values } = options;
  const { statistics } = saved;
  return {
    date: dateOf(saved.startedAt),
    endpoint_type: values.backend,
    backend: values.backend,
    label: values.label ?? null,
    model_id: saved.model,
    tokenizer_id: values.tokenizer?.split('/').findLast(Boolean) ?? null,
    num_prompts: values.numPrompts,
    ...options.metadata,
    request_rate: orInf(values.requestRate),
    burstiness: orInf(values.burstiness),
    max_concurrency: values.maxConcurrency ?? null,
    ...totals(statistics, options),
    ...(values.saveDetailed ? details(saved) : {}),
    ...latencyFields(statistics, options),
  };
}

function totals(statistics: ServeStatistics, { goodput }: ServeOptions) {
  const { durationSeconds, completed, inputTokens, outputTokens } = statistics;
  return {
    duration: durationSeconds,
    completed,
    failed: statistics.failed,
    total_input_tokens: inputTokens,
    total_output_tokens: outputTokens,
    request_throughput: completed / durationSeconds,
    request_goodput: Object.keys(goodput).length > 0 ? statistics.good / durationSeconds : null,
    output_throughput: outputTokens / durationSeconds,
    total_token_throughput: (inputTokens + outputTokens) / durationSeconds,
    max_output_tokens_per_s: statistics.peakTokensPerSecond,
    max_concurrent_requests: statistics.peakConcurrency,
    rtfx: 0,
  };
}

/** By request, in seconds. */
function details({ run: { outcomes }, statistics: { requests } }: SavedRun) {
  return {
    input_lens: outcomes.map(({ promptTokens }) => promptTokens ?? 0),
    output_lens: requests.map(({ outputTokens }) => outputTokens),
    ttfts: requests.map(({ ttft }) => ttft),
    itls: requests.map(({ itl }) => itl),
    latencies: requests.map(({ latency }) => latency),
    start_times: outcomes.map(({ startedNs }) => startedNs / 1e9),
    queue_times: requests.map(({ queued }) => queued),
    errors: outcomes.map(({ fault }) => (fault === undefined ? '' : faultText(fault))),
  };
}

function latencyFields({ latencies }: ServeStatistics, options: ServeOptions) {
  const fields: Record<string, number> = {};
  for (const name of shownLatencies(options)) {
    const { mean, median, std, percentiles } = latencies[name];
    fields[`mean_${name}_ms`] = mean;
    fields[`median_${name}_ms`] = median;
    fields[`std_${name}_ms`] = std;
    for (const [percent, ms] of percentiles) fields[`p${percent}_${name}_ms`] = ms;
  }
  return fields;
}

/** Where the document goes, under vLLM's name where none was given. */
export function resultPath({ model, startedAt }: SavedRun, { values }: ServeOptions): string {
  const { label, backend, maxConcurrency: limit } = values;
  const places = limit === undefined ? '' : `-concurrency${limit}`;
  const rate = orInf(values.requestRate);
  const shown = Number.isInteger(rate) ? `${rate}.0` : rate;
  const name = `${label ?? backend}-${shown}qps${places}-${model.split('/').at(-1)}`;
  const file = values.resultFilename ?? `${name}-${dateOf(startedAt)}.json`;
  const folder = values.resultDir;
  return folder === undefined ? file : `${folder.replace(/\/+$/, '')}/${file}`;
}

const orInf = (value: number): number | 'inf' => (Number.isFinite(value) ? value : 'inf');

/** 20261123-140509, in UTC. */
function dateOf(time: Date): string {
  return time.toISOString().replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
}
