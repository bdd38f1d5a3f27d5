import type { MetricSpec } from '@bridgekeeper/control/metrics';
import {
  Histogram,
  Reading,
  type RegistryMetric,
  type Sample,
  TTFT_SECONDS,
} from '@bridgekeeper/server/edge';
import { Registry } from 'prom-client';
import type { Fleet, Replica } from '../fleet.ts';
import type { BodyBudget } from '../http/body.ts';
import type { Relay, RelayObserver, RelayOutcome } from '../relay/relay.ts';
import { GATEWAY_METRICS } from './catalogue.ts';

/** What is known of the table's source. */
export interface TableState {
  readonly sequence: number | null;
  /** Since its source was last heard; null: never. */
  readonly ageSeconds: number | null;
  readonly isConnected: boolean;
}

export interface MetricsSources {
  readonly fleet: Fleet;
  readonly budget: BodyBudget;
  readonly table: () => TableState;
  readonly nowNs: () => number;
  readonly unixMs: () => number;
  /** Of an answer that began: where its receipt will be. */
  readonly kept: (relay: Relay) => void;
}

const PLACED_SECONDS = [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1, 5, 30];

/** Everything at /metrics. */
export class GatewayMetrics implements RelayObserver {
  readonly #registry = new Registry();
  readonly #sources: MetricsSources;
  readonly #ended = new Map<string, number>();
  readonly #events = new Map<string, number>();
  readonly #refusals = new Map<string, number>();
  readonly #retries = new Map<string, number>();
  readonly #firstByte: Histogram;
  readonly #placed: Histogram;
  #sealed = 0;
  #unsealed = 0;

  constructor(sources: MetricsSources) {
    this.#sources = sources;
    const { firstByte, placed } = GATEWAY_METRICS;
    this.#firstByte = new Histogram(firstByte.name, firstByte.help, {}, TTFT_SECONDS);
    this.#placed = new Histogram(placed.name, placed.help, {}, PLACED_SECONDS);
    const all: readonly RegistryMetric[] = [
      this.#firstByte,
      this.#placed,
      ...this.#traffic(),
      ...this.#replicas(),
      ...this.#table(),
    ];
    for (const metric of all) this.#registry.registerMetric(metric as never);
  }

  async exposition(): Promise<{ readonly text: string; readonly contentType: string }> {
    return { text: await this.#registry.metrics(), contentType: this.#registry.contentType };
  }

  retried(fault: string): void {
    add(this.#retries, fault);
  }

  began(relay: Relay): void {
    const { arrivedNs } = relay.request;
    this.#firstByte.observe((relay.firstByteNs - arrivedNs) / 1e9);
    this.#placed.observe((relay.sentNs - arrivedNs) / 1e9);
    this.#sources.kept(relay);
  }

  ended(relay: Relay, outcome: RelayOutcome): void {
    const { pool } = relay.request.pool.route;
    add(this.#ended, `${pool} ${outcome}`);
    add(this.#events, pool, relay.events);
  }

  refused(code: string): void {
    add(this.#refusals, code);
  }

  sealed(isSealed: boolean): void {
    if (isSealed) this.#sealed += 1;
    else this.#unsealed += 1;
  }

  #traffic(): Reading[] {
    const { fleet, budget } = this.#sources;
    const pools = () => [...fleet.pools];
    const labelled = (counts: ReadonlyMap<string, number>, ...names: readonly string[]) =>
      [...counts].map(([key, value]): Sample => {
        const values = key.split(' ');
        return { labels: Object.fromEntries(names.map((name, at) => [name, values[at]!])), value };
      });
    return [
      reading(GATEWAY_METRICS.requests, () => labelled(this.#ended, 'pool', 'outcome')),
      reading(GATEWAY_METRICS.refusals, () => labelled(this.#refusals, 'code')),
      reading(GATEWAY_METRICS.retries, () => labelled(this.#retries, 'reason')),
      reading(GATEWAY_METRICS.events, () => labelled(this.#events, 'pool')),
      reading(GATEWAY_METRICS.sealed, () => [
        { labels: { sealed: 'true' }, value: this.#sealed },
        { labels: { sealed: 'false' }, value: this.#unsealed },
      ]),
      reading(GATEWAY_METRICS.inFlight, () =>
        pools().map(({ route, replicas }) => ({
          labels: { pool: route.pool },
          value: [...replicas].reduce((sum, { inFlight }) => sum + inFlight, 0),
        })),
      ),
      reading(GATEWAY_METRICS.waiting, () =>
        pools().map(({ route, waiting }) => ({
          labels: { pool: route.pool },
          value: waiting.length,
        })),
      ),
      reading(GATEWAY_METRICS.bodyBytes, () => [{ labels: {}, value: budget.usedBytes }]),
    ];
  }

  #replicas(): Reading[] {
    const { fleet } = this.#sources;
    const each = (value: (replica: Replica) => number) => () =>
      [...fleet.replicas].map((replica): Sample => {
        const { pool, replica: name } = replica.route;
        return { labels: { pool, replica: name }, value: value(replica) };
      });
    return [
      reading(
        GATEWAY_METRICS.replicaInFlight,
        each(({ inFlight }) => inFlight),
      ),
      reading(
        GATEWAY_METRICS.replicaRequests,
        each(({ requests }) => requests),
      ),
      reading(
        GATEWAY_METRICS.replicaFailures,
        each(({ failures }) => failures),
      ),
      reading(GATEWAY_METRICS.replicas, () => this.#states()),
      reading(GATEWAY_METRICS.affinity, () => [
        { labels: { choice: 'same' }, value: fleet.shadowHits },
        { labels: { choice: 'other' }, value: fleet.shadowMisses },
      ]),
    ];
  }

  #states(): Sample[] {
    const { fleet, nowNs, unixMs } = this.#sources;
    const counts = new Map<string, number>();
    const stateOf = (replica: Replica) => {
      const { state, evidenceNotAfterMs } = replica.route;
      if (state === 'draining') return 'draining';
      if (evidenceNotAfterMs <= unixMs()) return 'stale';
      return replica.isPaused(nowNs()) ? 'paused' : 'serving';
    };
    for (const { route, replicas } of fleet.pools) {
      for (const state of ['serving', 'paused', 'stale', 'draining']) {
        counts.set(`${route.pool} ${state}`, 0);
      }
      for (const each of replicas) add(counts, `${route.pool} ${stateOf(each)}`);
    }
    return [...counts].map(([key, value]) => {
      const [pool = '', state = ''] = key.split(' ');
      return { labels: { pool, state }, value };
    });
  }

  #table(): Reading[] {
    const { table } = this.#sources;
    return [
      reading(GATEWAY_METRICS.tableAge, () => {
        const { ageSeconds } = table();
        return ageSeconds === null ? [] : [{ labels: {}, value: ageSeconds }];
      }),
      reading(GATEWAY_METRICS.tableSequence, () => [{ labels: {}, value: table().sequence ?? -1 }]),
      reading(GATEWAY_METRICS.controlUp, () => [
        { labels: {}, value: table().isConnected ? 1 : 0 },
      ]),
    ];
  }
}

function reading({ name, type, help }: MetricSpec, read: () => readonly Sample[]): Reading {
  return new Reading(name, type === 'counter' ? 'counter' : 'gauge', help, read);
}

function add(counts: Map<string, number>, key: string, more = 1): void {
  counts.set(key, (counts.get(key) ?? 0) + more);
}
