import { basename, isAbsolute } from 'node:path';
import { plotRuns, resultDocument, tableOf } from '@bridgekeeper/report';
import {
  type FlagTable,
  flag,
  flagOf,
  onOff,
  type Resolved,
  text,
  type Values,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Suite, SuiteIo } from './suite.ts';

const JSON_FLAG = { json: flag(onOff(), false, 'as one JSON document') };
const PLOT_FLAGS = {
  ...JSON_FLAG,
  svg: flag(text('file'), undefined, 'draw the result into this file'),
};

/** Every flag of the suite's command. */
export function suiteFlags({ flags, plot }: Suite): FlagTable {
  return { ...(plot === undefined ? JSON_FLAG : PLOT_FLAGS), ...flags };
}

/** Where a result goes besides the files that it is asked into. */
export interface SuiteOutput extends SuiteIo {
  /** A line for standard output. */
  readonly out: (line: string) => void;
  /** A line for standard error. */
  readonly err: (line: string) => void;
}

/** Runs a suite and prints its result; resolves to the exit code. Throws UsageError. */
export async function runSuite(
  suite: Suite,
  resolved: Resolved<FlagTable>,
  version: string,
  io: SuiteOutput,
): Promise<0 | 1> {
  const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
  const { json, svg } = resolved.values as Values<typeof PLOT_FLAGS>;
  const { device, runs, text, failure } = await suite.run(resolved.values, io.err, io);
  const context = { version, command: commandOf(suite, resolved), startedAt };
  const result = resultDocument(suite.name, context, device, runs);
  if (suite.plot !== undefined && svg !== undefined) io.writeFile(svg, plotRuns(runs, suite.plot));
  io.out(json ? JSON.stringify(result, null, 1) : (text ?? tableOf(runs)));
  if (failure === undefined) return 0;
  io.err(`bridgekeeper: ${failure}`);
  return 1;
}

/** The command as a result repeats it: without places of this machine, and without secrets. */
function commandOf({ name, flags }: Suite, { values, given }: Resolved<FlagTable>): string {
  const words = Object.entries(flags).flatMap(([name, { kind, default: fallback }]) => {
    const value = given[name];
    if (value === undefined || String(values[name]) === String(fallback)) return [];
    const flag = flagOf(name);
    if (typeof value === 'boolean') return [value ? `--${flag}` : `--no-${flag}`];
    if (kind.secret) return [`--${flag} ...`];
    const texts = [value].flat().map((text) => (isAbsolute(text) ? basename(text) : text));
    return [`--${flag} ${texts.join(' ')}`];
  });
  return [`bridgekeeper bench ${name}`, ...words].join(' ');
}
