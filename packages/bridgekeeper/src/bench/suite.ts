import type { Kind } from '../settings/kinds.ts';
import type { PlotSpec } from './plot.ts';
import type { BenchRun } from './result.ts';

export interface SuiteParameter {
  readonly kind: Kind<number> | Kind<string> | Kind<readonly string[]> | Kind<boolean>;
  readonly default: string;
  readonly help: string;
}

export interface SuiteResult {
  readonly device: { readonly name: string; readonly driver: string | null };
  readonly runs: readonly BenchRun[];
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
  ): Promise<SuiteResult>;
}
