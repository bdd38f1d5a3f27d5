import type { ServerParts } from '@bridgekeeper/server';

/** A talk with whoever is in front of the process. */
export interface Dialogue {
  /** Text for standard output, as it is. */
  readonly write: (text: string) => void;
  /** The lines of standard input, each asked for with `prompt` where a person types them. */
  readonly lines: (prompt: string) => AsyncIterable<string>;
}

/** What the command line touches of its process, so that tests can run it without one. */
export interface CliIo {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => string;
  readonly writeFile: (path: string, text: string) => void;
  /** A line for standard output. */
  readonly out: (line: string) => void;
  /** A line for standard error. */
  readonly err: (line: string) => void;
  /** Shows this in place of what it showed last; undefined where standard error is no terminal. */
  readonly redraw?: ((line: string) => void) | undefined;
  /** Absent: nobody is there to talk to. */
  readonly dialogue?: Dialogue | undefined;
  /** Whether standard output is a terminal. */
  readonly isTerminal: boolean;
  /** Calls back for every SIGINT or SIGTERM. */
  readonly onSignal: (action: (signal: string) => void) => void;
  /** Monotonic. */
  readonly nowNs: () => number;
  /** Ends the process at once. */
  readonly exit: (code: number) => void;
  /** The same in a while, unless it has ended: what is stuck in a file that never answers stays. */
  readonly exitLater: (seconds: number, code: number) => void;
  readonly startEngine: ServerParts['startEngine'];
}
