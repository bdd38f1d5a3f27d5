import type { Flag, FlagTable, Resolved } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';

/** 0 done, 1 failed, 2 bad usage or input. */
export type ExitCode = 0 | 1 | 2;

/** Another program's words in ours. */
export interface Translation {
  readonly words: readonly string[];
  /** What was done to them that its user should know. */
  readonly remarks: readonly string[];
}

/** One command of the program, or one suite of its `bench`. */
export interface CliCommand<F extends FlagTable = FlagTable> {
  /** `serve`, `bench decode`. */
  readonly name: string;
  readonly summary: string;
  /** All that it goes by. */
  readonly flags: F;
  /** Those that the command line takes, where it does not take all. */
  readonly offered?: readonly string[];
  /** More to say at the end of its help. */
  readonly notes?: string;
  /** Another program's spellings in its own, before anything is parsed. Throws UsageError. */
  readonly translate?: (words: readonly string[]) => Translation;
  /** Throws what `runCli` reports. `remarks` are those of the translation. */
  run(resolved: Resolved<F>, io: CliIo, remarks: readonly string[]): Promise<ExitCode>;
  /**
   * Prints, for programs that `args` say are listening, that it failed. The message went to
   * standard error already.
   */
  failed?(failure: Failure, args: readonly string[], io: CliIo): Promise<void>;
}

/** Why a command has no result. */
export interface Failure {
  readonly exitCode: ExitCode;
  /** The class of the error; `Error` where nobody foresaw it. */
  readonly name: string;
  /** Of that class; `bad-usage` where the command line cannot be parsed, else `internal`. */
  readonly code: string;
  readonly message: string;
}

/** What the command line takes, by name, in the order of its help. */
export function offeredFlags({ flags, offered }: CliCommand): [string, Flag<unknown>][] {
  return (offered ?? Object.keys(flags)).map((name) => [name, flags[name]!]);
}
