import { cpus } from 'node:os';
import { readConfidentialState } from '@bridgekeeper/device';
import type { SuiteResult } from './suite.ts';

/** One measurement: what was asked, what came out, over how many repeats and how far apart. */
export interface BenchRun {
  readonly parameters: Readonly<Record<string, string | number | boolean | null>>;
  readonly metrics: Readonly<Record<string, number>>;
  readonly repeats: number;
  /** For each metric that was repeated: smallest and largest. */
  readonly spread: Readonly<Record<string, readonly [min: number, max: number]>>;
}

/**
 * The one shape of every suite's result, on standard output with --json and as files in
 * docs/results.
 */
export interface BenchResult {
  readonly suite: string;
  readonly version: string;
  readonly command: string;
  readonly startedAt: string;
  readonly machine: {
    readonly device: string;
    readonly cpu: string;
    readonly cores: number;
    readonly driver: string | null;
    readonly node: string;
  };
  readonly runs: readonly BenchRun[];
}

/** The device of a result; a GPU's with the version of its driver, where NVML says it. */
export function benchDevice(kind: string, name: string): SuiteResult['device'] {
  return { name, driver: kind === 'cuda' ? readConfidentialState().driverVersion : null };
}

export interface BenchContext {
  readonly version: string;
  /** As the user typed it, without paths of the machine. */
  readonly command: string;
  readonly startedAt: Date;
}

/** Wraps runs into a result that says where they were measured. */
export function benchResult(
  suite: string,
  context: BenchContext,
  device: { readonly name: string; readonly driver: string | null },
  runs: readonly BenchRun[],
): BenchResult {
  const processors = cpus();
  return {
    suite,
    version: context.version,
    command: context.command,
    startedAt: context.startedAt.toISOString(),
    machine: {
      device: device.name,
      cpu: processors[0]?.model ?? 'unknown',
      cores: processors.length,
      driver: device.driver,
      node: process.versions.node,
    },
    runs,
  };
}

/** The runs of one parameter set as one: medians, with their spread. */
export function summarise(
  parameters: BenchRun['parameters'],
  repeats: readonly BenchRun['metrics'][],
): BenchRun {
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

/** Numbers as people read them: three significant digits, thousands without exponents. */
function shortNumber(value: number): string {
  if (value === 0) return '0';
  const magnitude = Math.abs(value);
  if (magnitude >= 100) return value.toFixed(0);
  return value.toPrecision(3);
}

/** Runs as an aligned table: parameters that differ, then metrics. */
export function tableOf(runs: readonly BenchRun[]): string {
  const names = Object.keys(runs[0]?.parameters ?? {});
  const varying = names.filter((name) => new Set(runs.map((run) => run.parameters[name])).size > 1);
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))];
  const rows = [
    [...varying, ...metrics],
    ...runs.map((run) => [
      ...varying.map((name) => String(run.parameters[name])),
      ...metrics.map((name) => shortNumber(run.metrics[name] ?? Number.NaN)),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => row.map((cell, column) => cell.padStart(widths[column]!)).join('  '))
    .join('\n');
}
