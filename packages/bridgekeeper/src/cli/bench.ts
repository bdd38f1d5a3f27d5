import { basename, isAbsolute } from 'node:path';
import { benchResult, plotRuns, tableOf } from '@bridgekeeper/report';
import { UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { type Command, Option } from 'commander';
import { DECODE_SUITE } from '../bench/decode.ts';
import { FUZZ_SUITE } from '../bench/fuzz/suite.ts';
import { POLICIES_SUITE } from '../bench/policies.ts';
import { PREFILL_SUITE } from '../bench/prefill.ts';
import { SERVE_SUITE } from '../bench/serve/suite.ts';
import { SSE_SUITE } from '../bench/sse.ts';
import { START_SUITE } from '../bench/start.ts';
import type { Suite, SuiteParameter } from '../bench/suite.ts';
import { VERIFY_SUITE } from '../bench/verify/suite.ts';
import { readVersion } from '../version.ts';
import type { CliIo } from './io.ts';

/** Every suite of `bridgekeeper bench`. */
const SUITES: readonly Suite[] = [
  SERVE_SUITE,
  DECODE_SUITE,
  PREFILL_SUITE,
  POLICIES_SUITE,
  SSE_SUITE,
  START_SUITE,
  FUZZ_SUITE,
  VERIFY_SUITE,
];

type Given = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

/** `setCode` takes the exit code. */
export function addBenchCommand(
  program: Command,
  io: CliIo,
  setCode: (code: number) => void,
): void {
  const bench = program.command('bench').description('measure; one suite a command');
  for (const suite of SUITES) {
    const command = bench
      .command(suite.name)
      .description(suite.summary)
      .option('--json', 'as one JSON document');
    if (suite.plot !== undefined) command.option('--svg <file>', 'draw the result into this file');
    for (const [flag, parameter] of Object.entries(suite.parameters)) {
      addFlag(command, flag, parameter);
    }
    command.action(async (given: Given) => setCode(await runSuite(suite, given, io)));
  }
}

function addFlag(command: Command, flag: string, parameter: SuiteParameter): void {
  const { kind, default: fallback, help } = parameter;
  if (kind.isSwitch) {
    command.addOption(new Option(`--${flag}`, help));
    if (fallback !== 'false') command.addOption(new Option(`--no-${flag}`, `not --${flag}`));
    return;
  }
  const value = kind.list ? `<${kind.metavar}...>` : `<${kind.metavar}>`;
  const option = new Option(`--${flag} ${value}`, help);
  command.addOption(fallback === undefined ? option : option.default(fallback));
}

async function runSuite(suite: Suite, given: Given, io: CliIo): Promise<number> {
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
  const { version } = readVersion();
  const context = { version, command: words.join(' '), startedAt };
  const result = benchResult(suite.name, context, device, runs);
  if (suite.plot !== undefined && typeof given.svg === 'string') {
    io.writeFile(given.svg, plotRuns(runs, suite.plot));
  }
  io.out(given.json === true ? JSON.stringify(result, null, 1) : (text ?? tableOf(runs)));
  if (failure === undefined) return 0;
  io.err(`bridgekeeper: ${failure}`);
  return 1;
}

/** Throws UsageError. */
function parse(flag: string, { kind, default: fallback }: SuiteParameter, value: Given[string]) {
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
function shown(flag: string, value: Given[string], { kind }: SuiteParameter): string {
  if (typeof value === 'boolean') return value ? `--${flag}` : `--no-${flag}`;
  if (kind.secret) return `--${flag} ...`;
  const texts = typeof value === 'object' ? value : [String(value)];
  return `--${flag} ${texts.map((text) => (isAbsolute(text) ? basename(text) : text)).join(' ')}`;
}
