import { cpus } from 'node:os';

/** One measurement: what was asked, what came out, over how many repeats and how far apart. */
export interface MeasuredRun {
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
export interface ResultDocument {
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
  readonly runs: readonly MeasuredRun[];
}

/** The device that was measured. */
export interface MeasuredDevice {
  readonly name: string;
  /** The version of its driver; null: it has none, or nothing says which. */
  readonly driver: string | null;
}

export interface ResultContext {
  readonly version: string;
  /** As the user typed it, without paths of the machine. */
  readonly command: string;
  readonly startedAt: Date;
}

/** Wraps runs into a result that says where they were measured. */
export function resultDocument(
  suite: string,
  context: ResultContext,
  device: MeasuredDevice,
  runs: readonly MeasuredRun[],
): ResultDocument {
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
