import { basename, isAbsolute } from 'node:path';
import { plotRuns, resultDocument, tableOf } from '@bridgekeeper/report';
import { UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Suite, SuiteIo, SuiteParameter } from './suite.ts';

/** What the command line read, by the flags' names in camel case; `json` and `svg` among them. */
export type GivenFlags = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

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
  given: GivenFlags,
  version: string,
  io: SuiteOutput,
): Promise<number> {
  const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
  const values: Record<string, unknown> = {};
  const words = [`bridgekeeper bench ${suite.name}`];
  for (const [flag, parameter] of Object.entries(suite.parameters)) {
    const value = given[flag.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())];
    values[flag] = parse(flag, parameter, value);
    const isGiven = value !== undefined && value !== parameter.default;
    if (isGiven) words.push(shown(flag, value, parameter));
  }
  const { device, runs, text, failure } = await suite.run(values, io.err, io);
  const context = { version, command: words.join(' '), startedAt };
  const result = resultDocument(suite.name, context, device, runs);
  if (suite.plot !== undefined && typeof given.svg === 'string') {
    io.writeFile(given.svg, plotRuns(runs, suite.plot));
  }
  io.out(given.json === true ? JSON.stringify(result, null, 1) : (text ?? tableOf(runs)));
  if (failure === undefined) return 0;
  io.err(`bridgekeeper: ${failure}`);
  return 1;
}

/** Throws UsageError. */
function parse(
  flag: string,
  { kind, default: fallback }: SuiteParameter,
  value: GivenFlags[string],
) {
  const given = value ?? fallback;
  if (given === undefined) return undefined;
  const texts = typeof given === 'object' ? given : [String(given)];
  try {
    const parsed = texts.map((each) => kind.parse(each));
    return kind.list ? parsed.flat() : parsed[0];
  } catch (error) {
    throw new UsageError('bad-value', `--${flag}: ${(error as Error).message}`);
  }
}

/** The flag as a result repeats it: without places of this machine, and without secrets. */
function shown(flag: string, value: GivenFlags[string], { kind }: SuiteParameter): string {
  if (typeof value === 'boolean') return value ? `--${flag}` : `--no-${flag}`;
  if (kind.secret) return `--${flag} ...`;
  const texts = typeof value === 'object' ? value : [String(value)];
  return `--${flag} ${texts.map((text) => (isAbsolute(text) ? basename(text) : text)).join(' ')}`;
}
