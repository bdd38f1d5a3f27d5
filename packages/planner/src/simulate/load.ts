import type { Workload } from '../workload/workload.ts';
import type { Percentiles, Prediction } from './prediction.ts';
import type { Slo } from './scenario.ts';

/** When a request's tokens came. */
export interface Watched {
  /** Warm-up is not. */
  readonly isCounted: boolean;
  readonly arrivedNs: number;
  firstNs: number;
  lastNs: number;
  tokens: number;
}

/** A growing list of values with weights. Values come in rows of equals: each row is one entry. */
class WeightedValues {
  readonly #values: number[] = [];
  readonly #weights: number[] = [];
  #total = 0;

  add(value: number, weight: number): void {
    const last = this.#values.length - 1;
    this.#total += weight;
    if (last >= 0 && this.#values[last] === value) {
      this.#weights[last]! += weight;
    } else {
      this.#values.push(value);
      this.#weights.push(weight);
    }
  }

  /** Each divided by `unit`. The p-th is the least value that has p of the weight up to it. */
  percentiles(unit: number): Percentiles {
    const total = this.#total;
    if (total === 0) return { mean: 0, p50: 0, p90: 0, p95: 0, p99: 0, max: 0 };
    const order = ascending(this.#values);
    const wanted = [0.5, 0.9, 0.95, 0.99, 1];
    const found: number[] = [];
    let below = 0;
    let sum = 0;
    for (const index of order) {
      below += this.#weights[index]!;
      sum += this.#values[index]! * this.#weights[index]!;
      while (found.length < wanted.length && below >= wanted[found.length]! * total - 1e-9) {
        found.push(this.#values[index]! / unit);
      }
    }
    const max = this.#values[order.at(-1)!]! / unit;
    while (found.length < wanted.length) found.push(max);
    const [p50, p90, p95, p99] = found as [number, number, number, number];
    return { mean: sum / total / unit, p50, p90, p95, p99, max };
  }
}

/**
 * Places of `values` in their ascending order, equals as they came. A function that compares would
 * be called ten million times for the steps of an hour.
 */
function ascending(values: readonly number[]): Uint32Array {
  const sorted = Float64Array.from(values).sort();
  const order = new Uint32Array(values.length);
  /** By the first place of equals, how many of them have one. */
  const placed = new Uint32Array(values.length);
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    let first = 0;
    let end = sorted.length;
    while (first < end) {
      const middle = (first + end) >> 1;
      if (sorted[middle]! < value) first = middle + 1;
      else end = middle;
    }
    order[first + placed[first]!] = index;
    placed[first]! += 1;
  }
  return order;
}

const MS = 1e6;
/** A load that is so far behind its last arrival does not drain. */
const LATE_PART = 1;
const LATE_NS = 120e9;

/** From its begin, when a load that is not done is given up; null: it has as long as it takes. */
export function giveUpNs({ concurrency, requests }: Workload): number | null {
  if (concurrency !== null) return null;
  return (requests.at(-1)?.atNs ?? 0) * (1 + LATE_PART) + LATE_NS;
}

/** What a load's requests got, and when. Requests before `warmup` are not counted. */
export class LoadObserver {
  readonly #warmup: number;
  readonly #slo: Slo | null;
  #open = 0;
  readonly #ttft = new WeightedValues();
  readonly #itl = new WeightedValues();
  readonly #tpot = new WeightedValues();
  readonly #e2e = new WeightedValues();
  readonly #broken = { ttft: 0, itl: 0, e2e: 0, any: 0 };
  #firstNs = Number.POSITIVE_INFINITY;
  #lastNs = 0;
  #completed = 0;
  #promptTokens = 0;
  #outputTokens = 0;
  #idleSinceNs: number | null = null;
  #idleNs = 0;
  #rowsMax = 0;

  constructor(options: { readonly warmupRequests: number; readonly slo: Slo | null }) {
    this.#warmup = options.warmupRequests;
    this.#slo = options.slo;
  }

  /** Why a load was given up at `nowNs`. */
  whyNot(nowNs: number, lastArrivalNs: number): string {
    const seconds = (nowNs - lastArrivalNs) / 1e9;
    return (
      `${this.#open} requests are still open ${seconds.toFixed(0)} s after the last one ` +
      'came: they come faster than this engine ends them'
    );
  }

  /** When the first request that counts arrived. */
  get firstNs(): number {
    return this.#firstNs;
  }

  /** For which no request was open. */
  get idleNs(): number {
    return this.#idleNs;
  }

  /** Requests that were open at a time, at most. */
  get openMax(): number {
    return this.#rowsMax;
  }

  /** Whoever sees its tokens tells with what this returns. */
  arrived(request: number, nowNs: number, promptTokens: number): Watched {
    if (this.#idleSinceNs !== null) this.#idleNs += nowNs - this.#idleSinceNs;
    this.#idleSinceNs = null;
    const isCounted = request >= this.#warmup;
    if (isCounted) {
      this.#firstNs = Math.min(this.#firstNs, nowNs);
      this.#promptTokens += promptTokens;
    }
    this.#open += 1;
    this.#rowsMax = Math.max(this.#rowsMax, this.#open);
    return { isCounted, arrivedNs: nowNs, firstNs: -1, lastNs: -1, tokens: 0 };
  }

  /** Tokens that came together. */
  tokens(watched: Watched, nowNs: number, count: number): void {
    watched.tokens += count;
    if (watched.firstNs < 0) {
      watched.firstNs = nowNs;
      watched.lastNs = nowNs;
      if (watched.isCounted) this.#ttft.add(nowNs - watched.arrivedNs, 1);
      return;
    }
    if (watched.isCounted) this.#itl.add((nowNs - watched.lastNs) / count, count);
    watched.lastNs = nowNs;
  }

  ended(watched: Watched, nowNs: number): void {
    this.#open -= 1;
    if (this.#open === 0) this.#idleSinceNs = nowNs;
    if (!watched.isCounted) return;
    const { arrivedNs, firstNs, lastNs, tokens } = watched;
    const tpotNs = tokens > 1 ? (lastNs - firstNs) / (tokens - 1) : 0;
    this.#completed += 1;
    this.#outputTokens += tokens;
    this.#lastNs = Math.max(this.#lastNs, nowNs);
    if (tokens > 1) this.#tpot.add(tpotNs, 1);
    this.#e2e.add(nowNs - arrivedNs, 1);
    const broke = (ns: number, limitMs: number | undefined) =>
      limitMs !== undefined && ns > limitMs * MS;
    const { ttftMs, itlMs, e2eMs } = this.#slo ?? {};
    const ttft = broke(firstNs - arrivedNs, ttftMs);
    const itl = broke(tpotNs, itlMs);
    const e2e = broke(nowNs - arrivedNs, e2eMs);
    this.#broken.ttft += Number(ttft);
    this.#broken.itl += Number(itl);
    this.#broken.e2e += Number(e2e);
    this.#broken.any += Number(ttft || itl || e2e);
  }

  /** The part of a prediction that clients see. */
  summary(): Pick<
    Prediction,
    | 'completed'
    | 'seconds'
    | 'requestsPerSecond'
    | 'outputTokensPerSecond'
    | 'totalTokensPerSecond'
    | 'ttftMs'
    | 'itlMs'
    | 'tpotMs'
    | 'e2eMs'
    | 'slo'
  > {
    const seconds = this.#completed === 0 ? 0 : (this.#lastNs - this.#firstNs) / 1e9;
    const rate = (count: number) => (seconds === 0 ? 0 : count / seconds);
    const part = (count: number) => (this.#completed === 0 ? 0 : count / this.#completed);
    const { ttft, itl, e2e, any } = this.#broken;
    return {
      completed: this.#completed,
      seconds,
      requestsPerSecond: rate(this.#completed),
      outputTokensPerSecond: rate(this.#outputTokens),
      totalTokensPerSecond: rate(this.#outputTokens + this.#promptTokens),
      ttftMs: this.#ttft.percentiles(MS),
      itlMs: this.#itl.percentiles(MS),
      tpotMs: this.#tpot.percentiles(MS),
      e2eMs: this.#e2e.percentiles(MS),
      slo:
        this.#slo === null
          ? null
          : { ttft: part(ttft), itl: part(itl), e2e: part(e2e), any: part(any) },
    };
  }
}
