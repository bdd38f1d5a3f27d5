import type { CrossingCost } from '@bridgekeeper/bridge';
import { quantile } from '@bridgekeeper/report';

/** One size as measured: the median of its repeats. */
export interface CostPoint {
  readonly bytes: number;
  readonly ns: number;
}

/** Toll and rates of one way across an idle bridge. */
export type IdleCost = Pick<CrossingCost, 'idleTollNs' | 'bandwidth'>;

/** Sizes that cost at most this much of the smallest one tell the toll from the bytes. */
const SMALL_COST = 1.5;
const SMALL_POINTS_MIN = 3;
/**
 * A rate is read where the bytes take at least this part of the toll's time: below, it is noise.
 * The fitted law meets the cost of every size above exactly: noise bends rates and not costs.
 */
const SIGNAL = 0.05;
/** Keeps rounding to so many digits from making more bytes arrive sooner. */
const STEP = 1 + 2e-5;
const RATE_DIGITS = 6;

/**
 * Fits toll + bytes / rate(bytes) to costs at ascending sizes, three at the least. The toll is the
 * intercept of a line through the small sizes, by medians (Theil and Sen), so that one bad size
 * does not move it; the rates are those of the sizes whose bytes show beside the toll.
 */
export function fitIdleCost(points: readonly CostPoint[]): IdleCost {
  const idleTollNs = Math.max(0, Math.round(tollOf(points)));
  const telling = points.filter(({ ns }) => ns - idleTollNs >= SIGNAL * idleTollNs);
  const knots = telling.length > 0 ? telling : points.slice(-1);
  let lastNs = 0;
  const bandwidth = knots.map(({ bytes, ns }) => {
    lastNs = Math.max(ns - idleTollNs, lastNs * STEP, Number.MIN_VALUE);
    const bytesPerSecond = Number(((bytes * 1e9) / lastNs).toPrecision(RATE_DIGITS));
    return { bytes, bytesPerSecond };
  });
  return { idleTollNs, bandwidth };
}

function tollOf(points: readonly CostPoint[]): number {
  const least = Math.min(...points.map(({ ns }) => ns));
  const dear = points.findIndex(({ ns }) => ns > SMALL_COST * least);
  const cheap = dear < 0 ? points.length : dear;
  const small = points.slice(0, Math.max(SMALL_POINTS_MIN, cheap));
  const slopes = small.flatMap((a, i) =>
    small.slice(i + 1).map((b) => (b.ns - a.ns) / (b.bytes - a.bytes)),
  );
  const slope = Math.max(0, median(slopes));
  return median(small.map(({ bytes, ns }) => ns - slope * bytes));
}

function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}
