import type { MeasuredRun } from './result.ts';

/** The runs of one parameter set as one: medians, with their spread. */
export function summarise(
  parameters: MeasuredRun['parameters'],
  repeats: readonly MeasuredRun['metrics'][],
): MeasuredRun {
  const metrics: Record<string, number> = {};
  const spread: Record<string, readonly [number, number]> = {};
  for (const name of Object.keys(repeats[0] ?? {})) {
    const values = repeats.map((metric) => metric[name]!).sort((a, b) => a - b);
    metrics[name] = quantile(values, 0.5);
    spread[name] = [values[0]!, values.at(-1)!];
  }
  return { parameters, metrics, repeats: repeats.length, spread };
}

/** Linear interpolation between the closest ranks; 0 for no values. `sorted` ascends. */
export function quantile(sorted: readonly number[], fraction: number): number {
  if (sorted.length === 0) return 0;
  const rank = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(rank)]!;
  const above = sorted[Math.ceil(rank)]!;
  return below + (above - below) * (rank - Math.floor(rank));
}

/** How values are distributed. All 0 where there are none. */
export interface Distribution {
  readonly mean: number;
  readonly median: number;
  readonly std: number;
  /** By percent, in the order asked for. */
  readonly percentiles: readonly (readonly [percent: number, value: number])[];
}

/** The distribution of `values`, in their unit; `std` is the population's. */
export function distributionOf(
  values: readonly number[],
  percentiles: readonly number[],
): Distribution {
  const sorted = values.toSorted((a, b) => a - b);
  const count = Math.max(1, sorted.length);
  const mean = sorted.reduce((total, value) => total + value, 0) / count;
  const variance = sorted.reduce((total, value) => total + (value - mean) ** 2, 0) / count;
  return {
    mean,
    median: quantile(sorted, 0.5),
    std: Math.sqrt(variance),
    percentiles: percentiles.map((percent) => [percent, quantile(sorted, percent / 100)]),
  };
}
