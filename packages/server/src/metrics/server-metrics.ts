import type { EngineClient, EngineStats } from '@bridgekeeper/engine';
import { Registry } from 'prom-client';
import type { EngineRestarts } from '../engine/restarting-engine.ts';
import type { Choice } from '../openai/choice.ts';
import type { Observer } from '../openai/generation.ts';
import type { ReceiptCounts } from '../receipts/receipts.ts';
import { bridgeMetrics } from './bridge-metrics.ts';
import {
  ITERATION_TOKENS,
  REQUEST_SECONDS,
  TOKEN_GAP_SECONDS,
  TTFT_SECONDS,
  tokenCounts,
} from './buckets.ts';
import { Histogram, type RegistryMetric } from './histogram.ts';
import { Reading } from './reading.ts';
import { receiptMetrics } from './receipt-metrics.ts';
import { restartMetrics } from './restart-metrics.ts';

type Labels = Readonly<Record<string, string>>;
type FinishedReason = 'stop' | 'length' | 'abort' | 'error';

const seconds = (ns: number) => ns / 1e9;

/** What not every server has. */
export interface MetricSources {
  /** undefined: no receipts are given. */
  readonly receipts?: (() => ReceiptCounts) | undefined;
  /** undefined: the engine is never started again. */
  readonly restarts?: (() => EngineRestarts) | undefined;
}

/** Everything at /metrics: vLLM's core names, and the bridge's own under `bridgekeeper:`. */
export class ServerMetrics implements Observer {
  readonly #registry = new Registry();
  readonly #finished: Record<FinishedReason, number> = { stop: 0, length: 0, abort: 0, error: 0 };
  readonly #histograms: ReturnType<typeof requestHistograms>;
  #stepTokens = 0;

  /** `modelName` is the name the model is served under. */
  constructor(engine: EngineClient, modelName: string, sources: MetricSources = {}) {
    const { receipts, restarts } = sources;
    const labels = { model_name: modelName, engine: '0' };
    this.#histograms = requestHistograms(labels, engine.card.maxModelTokens);
    const stats = () => engine.stats();
    for (const histogram of Object.values(this.#histograms)) this.#add(histogram);
    this.#add(
      this.#histograms.interToken.alias(
        'vllm:time_per_output_token_seconds',
        'Old name of vllm:inter_token_latency_seconds.',
      ),
    );
    for (const reading of engineReadings(stats, labels)) this.#add(reading);
    if (stats().speculation !== undefined) {
      for (const reading of speculationReadings(stats, labels)) this.#add(reading);
    }
    for (const reading of kvReadings(stats, labels)) this.#add(reading);
    for (const reading of snapshotReadings(stats, labels)) this.#add(reading);
    for (const reading of bridgeMetrics(stats, labels)) this.#add(reading);
    if (receipts !== undefined) this.#add(receiptMetrics(receipts, labels));
    if (restarts !== undefined) {
      for (const reading of restartMetrics(restarts, labels)) this.#add(reading);
    }
    this.#add(this.#successReading(labels));
    this.#add(cacheConfig(engine, labels));
  }

  tokens(choice: Choice, count: number, gapNs: number, first: boolean): void {
    if (this.#stepTokens === 0) setImmediate(this.#closeStep);
    this.#stepTokens += count;
    if (first) {
      this.#stepTokens += choice.request.promptTokens.length;
      this.#histograms.firstToken.observe(seconds(gapNs));
    } else {
      this.#histograms.interToken.observe(seconds(gapNs));
    }
  }

  finished(choice: Choice, elapsedNs: number): void {
    const { outcome, request } = choice;
    if (outcome === undefined) return;
    this.#finished[outcome.reason] += 1;
    if (outcome.reason !== 'stop' && outcome.reason !== 'length') return;
    const histograms = this.#histograms;
    histograms.endToEnd.observe(seconds(elapsedNs));
    histograms.promptTokens.observe(request.promptTokens.length);
    histograms.generationTokens.observe(choice.completionTokens);
    if (outcome.timing === undefined) return;
    const { queuedNs, prefillNs, decodeNs } = outcome.timing;
    histograms.queue.observe(seconds(queuedNs));
    histograms.prefill.observe(seconds(prefillNs));
    histograms.decode.observe(seconds(decodeNs));
    histograms.inference.observe(seconds(prefillNs + decodeNs));
  }

  /** The exposition, in Prometheus' text format. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /**
   * Events of one engine step arrive in one turn of the event loop: together they are an iteration.
   */
  readonly #closeStep = (): void => {
    this.#histograms.iterationTokens.observe(this.#stepTokens);
    this.#stepTokens = 0;
  };

  #add(metric: RegistryMetric): void {
    this.#registry.registerMetric(metric as never);
  }

  #successReading(labels: Labels): RegistryMetric {
    return new Reading(
      'vllm:request_success_total',
      'counter',
      'Finished requests by reason.',
      () =>
        Object.entries(this.#finished).map(([reason, value]) => ({
          labels: { finished_reason: reason, ...labels },
          value,
        })),
    );
  }
}

function requestHistograms(labels: Labels, maxModelTokens: number) {
  const histogram = (name: string, help: string, bounds: readonly number[]) =>
    new Histogram(`vllm:${name}`, help, labels, bounds);
  const counts = tokenCounts(maxModelTokens);
  return {
    firstToken: histogram('time_to_first_token_seconds', 'Time to first token.', TTFT_SECONDS),
    interToken: histogram(
      'inter_token_latency_seconds',
      'Time between the engine reports that brought a stream its tokens.',
      TOKEN_GAP_SECONDS,
    ),
    endToEnd: histogram('e2e_request_latency_seconds', 'Arrival to last token.', REQUEST_SECONDS),
    queue: histogram('request_queue_time_seconds', 'Time waiting for a row.', REQUEST_SECONDS),
    prefill: histogram('request_prefill_time_seconds', 'Time in prefill.', REQUEST_SECONDS),
    decode: histogram('request_decode_time_seconds', 'Time in decode.', REQUEST_SECONDS),
    inference: histogram('request_inference_time_seconds', 'Prefill and decode.', REQUEST_SECONDS),
    promptTokens: histogram('request_prompt_tokens', 'Prompt tokens of a request.', counts),
    generationTokens: histogram('request_generation_tokens', 'Generated tokens.', counts),
    iterationTokens: histogram(
      'iteration_tokens_total',
      'Tokens of one engine report: generated ones, and the prompts of those that began.',
      ITERATION_TOKENS,
    ),
  };
}

function engineReadings(stats: () => EngineStats, labels: Labels): Reading[] {
  const gauge = (name: string, help: string, read: (stats: EngineStats) => number) =>
    new Reading(`vllm:${name}`, 'gauge', help, () => [{ labels, value: read(stats()) }]);
  const counter = (name: string, help: string, read: (stats: EngineStats) => number) =>
    new Reading(`vllm:${name}_total`, 'counter', help, () => [{ labels, value: read(stats()) }]);
  return [
    gauge('num_requests_running', 'Requests that hold a row.', (now) => now.running),
    gauge('num_requests_waiting', 'Requests that wait for one.', (now) => now.waiting),
    gauge('kv_cache_usage_perc', 'Share of KV pages in use, 0 to 1.', (now) => now.kvUsage),
    counter('prefix_cache_queries', 'Tokens looked up.', (now) => now.prefixQueriedTokens),
    counter('prefix_cache_hits', 'Tokens found.', (now) => now.prefixHitTokens),
    counter('num_preemptions', 'Requests that lost their pages.', (now) => now.preemptions),
    counter('prompt_tokens', 'Prompt tokens computed or found.', (now) => now.promptTokens),
    counter('generation_tokens', 'Tokens generated.', (now) => now.generatedTokens),
  ];
}

/** Of servers that draft. */
function speculationReadings(stats: () => EngineStats, labels: Labels): Reading[] {
  type Counters = NonNullable<EngineStats['speculation']>;
  const counter = (name: string, help: string, read: (counters: Counters) => number) =>
    new Reading(`vllm:spec_decode_${name}_total`, 'counter', help, () => {
      const { speculation } = stats();
      return speculation === undefined ? [] : [{ labels, value: read(speculation) }];
    });
  return [
    counter('num_drafts', 'Steps of requests with drafts.', ({ drafts }) => drafts),
    counter('num_draft_tokens', 'Tokens drafted.', ({ draftTokens }) => draftTokens),
    counter(
      'num_accepted_tokens',
      'Tokens drafted that were right.',
      ({ acceptedTokens }) => acceptedTokens,
    ),
    new Reading(
      'bridgekeeper:draft_tokens_per_step',
      'gauge',
      'Tokens that launches draft for each request now; 0 where it would not pay.',
      () => [{ labels, value: stats().speculation?.draftsPerStep ?? 0 }],
    ),
  ];
}

type SnapshotStats = EngineStats['snapshots'];

const TIERS = ['device', 'host', 'disk'] as const;

function kvReadings(stats: () => EngineStats, labels: Labels): Reading[] {
  const byTier = (pages: readonly number[]) =>
    TIERS.map((tier, index) => ({ labels: { tier, ...labels }, value: pages[index]! }));
  const movedParts = () =>
    stats().kv.parts.flatMap(({ part, moved }) => (moved === null ? [] : [{ part, moved }]));
  return [
    new Reading('bridgekeeper:kv_pages', 'gauge', 'KV pages with content, by where it is.', () =>
      byTier(stats().kv.total.resident),
    ),
    new Reading('bridgekeeper:kv_places', 'gauge', 'KV pages that there is room for.', () =>
      byTier(stats().kv.places),
    ),
    new Reading(
      'bridgekeeper:kv_part_places',
      'gauge',
      'What of KV there is room for, by part: pages of contexts, pages of windows, states.',
      () =>
        stats().kv.parts.flatMap(({ part, places }) =>
          TIERS.map((tier, index) => ({
            labels: { part, tier, ...labels },
            value: places[index]!,
          })),
        ),
    ),
    new Reading(
      'bridgekeeper:kv_stored_parts',
      'gauge',
      'Pages of windows and states below the device, by where they are.',
      () =>
        movedParts().flatMap(({ part, moved: { resident } }) =>
          TIERS.slice(1).map((tier, index) => {
            return { labels: { part, tier, ...labels }, value: resident[index]! };
          }),
        ),
    ),
    new Reading(
      'bridgekeeper:kv_moved_parts_total',
      'counter',
      'What became of pages of windows and states that left the device, or were wanted there.',
      () =>
        movedParts().flatMap(({ part, moved: { resident, ...events } }) =>
          Object.entries(events).map(([event, value]) => {
            return { labels: { part, event, ...labels }, value };
          }),
        ),
    ),
    new Reading(
      'bridgekeeper:kv_hit_pages_total',
      'counter',
      'KV pages that requests found, by where they were.',
      () => byTier(stats().kv.total.hits),
    ),
    new Reading(
      'bridgekeeper:kv_moved_pages_total',
      'counter',
      'What became of KV pages that left the device, or were wanted there.',
      () => {
        const { resident, hits, recomputed, ...events } = stats().kv.total;
        return Object.entries(events).map(([event, value]) => ({
          labels: { event, ...labels },
          value,
        }));
      },
    ),
    new Reading(
      'bridgekeeper:kv_recomputed_pages_total',
      'counter',
      'KV pages that were computed again, by why.',
      () =>
        Object.entries(stats().kv.total.recomputed).map(([reason, value]) => ({
          labels: { reason, ...labels },
          value,
        })),
    ),
    new Reading('bridgekeeper:kv_host_bytes', 'gauge', 'Host memory that is there for KV.', () => [
      { labels, value: stats().kv.hostReadyBytes },
    ]),
  ];
}

/** Zero throughout for models that keep no states beside pages. */
function snapshotReadings(stats: () => EngineStats, labels: Labels): Reading[] {
  const gauge = (name: string, help: string, read: (now: SnapshotStats) => number) =>
    new Reading(`bridgekeeper:${name}`, 'gauge', help, () => [
      { labels, value: read(stats().snapshots) },
    ]);
  return [
    gauge('state_snapshots', 'States kept of prefixes.', ({ held }) => held),
    gauge('state_snapshot_places', 'States that there is room for.', ({ places }) => places),
    new Reading(
      'bridgekeeper:state_snapshot_events_total',
      'counter',
      'What became of states that were kept.',
      () => {
        const { taken, used, evicted } = stats().snapshots;
        return Object.entries({ taken, used, evicted }).map(([event, value]) => ({
          labels: { event, ...labels },
          value,
        }));
      },
    ),
  ];
}

function cacheConfig({ card }: EngineClient, labels: Labels): Reading {
  const config = {
    block_size: String(card.pageTokens),
    num_gpu_blocks: String(card.kvPages),
    cache_dtype: card.memory.kvFormat === 'element' ? 'auto' : 'fp8_e4m3',
    ...labels,
  };
  return new Reading('vllm:cache_config_info', 'gauge', 'The KV cache in use.', () => [
    { labels: config, value: 1 },
  ]);
}
