import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { Evidence, type Pool, type Replica } from '../api/fleet.ts';
import { REPORT_MS } from '../fleet/context.ts';
import type { Committed, Term } from '../lead/term.ts';
import { CONTROL_METRICS } from './catalogue.ts';
import type { MetricSpec } from './spec.ts';

export interface MetricsSources {
  /** The term in which this control leads; null: it does not. */
  readonly term: () => Term | null;
  readonly nowMs: () => number;
}

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

const Judged = Evidence.pick({ isAccepted: true });

/** Everything at /metrics. What names pools is known only while this control leads. */
export class ControlMetrics {
  readonly #registry = new Registry();
  readonly #sources: MetricsSources;
  readonly #commits: Histogram;
  readonly #rounds: Histogram;
  readonly #terms: Counter;
  readonly #troubles: Counter;
  readonly #changes: Counter;
  readonly #requests: Counter;
  readonly #verdicts: Counter;
  #epoch = 0;
  #sequence = 0;

  constructor(sources: MetricsSources) {
    this.#sources = sources;
    const histogram = ({ name, help }: MetricSpec) =>
      new Histogram({ name, help, buckets: SECONDS, registers: [this.#registry] });
    const counter = ({ name, help, labels }: MetricSpec) =>
      new Counter({ name, help, labelNames: [...labels], registers: [this.#registry] });
    const metrics = CONTROL_METRICS;
    this.#commits = histogram(metrics.commits);
    this.#rounds = histogram(metrics.rounds);
    this.#terms = counter(metrics.terms);
    this.#troubles = counter(metrics.troubles);
    this.#changes = counter(metrics.changes);
    this.#requests = counter(metrics.requests);
    this.#verdicts = counter(metrics.verdicts);
    for (const outcome of ['accepted', 'refused']) this.#verdicts.inc({ outcome }, 0);
    this.#gauge(metrics.leads, () => [of(sources.term() === null ? 0 : 1)]);
    this.#gauge(metrics.epoch, () => [of(this.#epoch)]);
    this.#gauge(metrics.sequence, () => [of(this.#sequence)]);
    this.#gauge(metrics.hosts, () => this.#ofTerm(hostsOf));
    this.#gauge(metrics.gpus, () => this.#ofTerm(gpusOf));
    this.#gauge(metrics.gateways, () => this.#ofTerm(({ heard }) => this.#gateways(heard)));
    this.#gauge(metrics.replicas, () => this.#ofTerm(replicasOf));
    const byPool = (value: (pool: Pool) => number) => () =>
      this.#ofTerm(({ fleet }) =>
        [...fleet.rows('pool').values()].map((pool) => of(value(pool), { pool: pool.pool })),
      );
    this.#gauge(
      metrics.wanted,
      byPool(({ spec }) => spec.replicas.min),
    );
    this.#gauge(
      metrics.poolTroubles,
      byPool(({ trouble }) => (trouble === null ? 0 : 1)),
    );
    this.#gauge(
      metrics.failures,
      byPool(({ failures }) => failures),
    );
    this.#gauge(metrics.evidenceLeft, () => this.#ofTerm((term) => this.#evidenceLeft(term)));
  }

  async exposition(): Promise<{ readonly text: string; readonly contentType: string }> {
    return { text: await this.#registry.metrics(), contentType: this.#registry.contentType };
  }

  begun({ lease, sequence }: Term): void {
    this.#terms.inc();
    this.#epoch = lease.epoch;
    this.#sequence = sequence;
  }

  committed({ sequence, changes, seconds }: Committed): void {
    this.#sequence = sequence;
    this.#commits.observe(seconds);
    for (const { kind, from, body } of changes) {
      this.#changes.inc({ kind });
      if (kind !== 'evidence' || from !== 0 || body === null) continue;
      const { isAccepted } = Judged.parse(JSON.parse(body));
      this.#verdicts.inc({ outcome: isAccepted ? 'accepted' : 'refused' });
    }
  }

  reconciled(seconds: number): void {
    this.#rounds.observe(seconds);
  }

  troubled(code: string): void {
    this.#troubles.inc({ code });
  }

  answered(call: string, code: string): void {
    this.#requests.inc({ call, code });
  }

  #gauge({ name, help, labels }: MetricSpec, read: () => readonly Sample[]): void {
    const gauge = new Gauge({
      name,
      help,
      labelNames: [...labels],
      registers: [this.#registry],
      collect: () => {
        gauge.reset();
        // One without labels would say 0 where nothing is known.
        if (labels.length === 0) gauge.remove();
        for (const { labels: own, value } of read()) gauge.set({ ...own }, value);
      },
    });
  }

  #ofTerm(read: (term: Term) => readonly Sample[]): readonly Sample[] {
    const term = this.#sources.term();
    return term === null ? [] : read(term);
  }

  #gateways({ gateways }: Term['heard']): readonly Sample[] {
    const nowMs = this.#sources.nowMs();
    return [of([...gateways.values()].filter(({ atMs }) => nowMs - atMs < REPORT_MS).length)];
  }

  #evidenceLeft({ fleet }: Term): readonly Sample[] {
    const nowMs = this.#sources.nowMs();
    const least = new Map<string, number>();
    for (const { pool, phase, evidence } of fleet.rows('replica').values()) {
      if ((phase !== 'warm' && phase !== 'serving') || evidence === null) continue;
      const left = Math.max(0, evidence.notAfterMs - nowMs) / 1000;
      least.set(pool, Math.min(left, least.get(pool) ?? Number.POSITIVE_INFINITY));
    }
    return [...least].map(([pool, left]) => of(left, { pool }));
  }
}

function of(value: number, labels: Readonly<Record<string, string>> = {}): Sample {
  return { labels, value };
}

function countsOf<K extends string>(states: readonly K[], all: Iterable<K>): readonly Sample[] {
  const counts = new Map<K, number>(states.map((state) => [state, 0]));
  for (const state of all) counts.set(state, counts.get(state)! + 1);
  return [...counts].map(([state, count]) => of(count, { state }));
}

function hostsOf({ fleet }: Term): readonly Sample[] {
  const hosts = [...fleet.rows('host').values()];
  return countsOf(
    ['joined', 'ready', 'cordoned', 'draining', 'lost'],
    hosts.map(({ state, lostSinceMs }) => (lostSinceMs === null ? state : 'lost')),
  );
}

function gpusOf({ fleet }: Term): readonly Sample[] {
  const states = [...fleet.rows('host').values()].flatMap(({ host, facts, quarantined }) => {
    const out = new Set([...quarantined, ...(facts?.quarantined ?? [])].map((q) => q.module));
    return (facts?.gpus ?? []).map(({ module, isHealthy }) => {
      if (out.has(module) || !isHealthy) return 'quarantined';
      return fleet.claimOf(host, module) === null ? 'free' : 'claimed';
    });
  });
  return countsOf(['free', 'claimed', 'quarantined'], states);
}

function replicasOf({ fleet }: Term): readonly Sample[] {
  const counts = new Map<string, { labels: { pool: string; phase: string }; value: number }>();
  const count = ({ pool, phase }: Pick<Replica, 'pool' | 'phase'>) => {
    const key = `${pool} ${phase}`;
    const entry = counts.get(key) ?? { labels: { pool, phase }, value: 0 };
    counts.set(key, entry);
    return entry;
  };
  // A pool without any has a line of its own: an alert sees it.
  for (const { pool } of fleet.rows('pool').values()) count({ pool, phase: 'serving' });
  for (const replica of fleet.rows('replica').values()) count(replica).value += 1;
  return [...counts.values()];
}
