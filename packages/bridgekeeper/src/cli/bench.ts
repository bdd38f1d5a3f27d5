import { fileURLToPath } from 'node:url';
import { type GivenFlags, runSuite, SUITES, type SuiteParameter } from '@bridgekeeper/bench';
import { type Command, Option } from 'commander';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';

const MAIN = fileURLToPath(new URL('../main.js', import.meta.url));

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
    command.action(async (given: GivenFlags) => {
      const { version } = readVersion();
      setCode(await runSuite(suite, given, version, { ...io, main: MAIN }));
    });
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
