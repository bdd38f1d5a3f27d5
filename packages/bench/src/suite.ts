import type { MeasuredDevice, MeasuredRun, PlotSpec } from '@bridgekeeper/report';
import type { FlagTable, Values } from '@bridgekeeper/server';

export interface SuiteResult {
  readonly device: MeasuredDevice;
  readonly runs: readonly MeasuredRun[];
  /** What people read in place of the table of runs. */
  readonly text?: string;
  /** Why the result, though complete, is no success: exit code 1. */
  readonly failure?: string;
}

/** What a suite touches of its process. */
export interface SuiteIo {
  /** The file that Node runs as `bridgekeeper`, for suites that start it. */
  readonly main: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => string;
  readonly writeFile: (path: string, text: string) => void;
  /** Shows this in place of what it showed last; undefined where standard error is no terminal. */
  readonly redraw?: ((line: string) => void) | undefined;
}

/** One suite of `bridgekeeper bench`. */
export interface Suite<F extends FlagTable = FlagTable> {
  readonly name: string;
  readonly summary: string;
  /** What `--svg` draws; a suite without one has no picture. */
  readonly plot?: PlotSpec;
  readonly flags: F;
  /** `progress` takes lines for people. */
  run(values: Values<F>, progress: (line: string) => void, io: SuiteIo): Promise<SuiteResult>;
}
