import type { MeasuredDevice, MeasuredRun, PlotSpec } from '@bridgekeeper/report';
import type { Kind } from '@bridgekeeper/server';

export interface SuiteParameter {
  readonly kind: Kind<number> | Kind<string> | Kind<readonly string[]> | Kind<boolean>;
  /** As it would be given; undefined: the suite sees undefined where the flag is not given. */
  readonly default: string | undefined;
  readonly help: string;
}

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

/** One suite of `bridgekeeper bench`. Its parameters become flags of its command. */
export interface Suite {
  readonly name: string;
  readonly summary: string;
  /** What `--svg` draws; a suite without one has no picture. */
  readonly plot?: PlotSpec;
  /** By flag, without the dashes. */
  readonly parameters: Readonly<Record<string, SuiteParameter>>;
  /** `progress` takes lines for people. */
  run(
    values: Readonly<Record<string, unknown>>,
    progress: (line: string) => void,
    io: SuiteIo,
  ): Promise<SuiteResult>;
}
