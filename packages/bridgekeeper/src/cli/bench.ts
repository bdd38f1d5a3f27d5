import type { Command } from 'commander';
import { plotRuns } from '../bench/plot.ts';
import { POLICIES_SUITE } from '../bench/policies.ts';
import { benchResult, tableOf } from '../bench/result.ts';
import { SSE_SUITE } from '../bench/sse.ts';
import { START_SUITE } from '../bench/start.ts';
import type { Suite } from '../bench/suite.ts';
import { HOST_CLOCK } from '../edge/time.ts';
import { UsageError } from '../settings/resolve.ts';
import { readVersion } from '../version.ts';
import type { CliIo } from './io.ts';

/** Every suite of `bridgekeeper bench`. */
const SUITES: readonly Suite[] = [POLICIES_SUITE, SSE_SUITE, START_SUITE];

export function addBenchCommand(program: Command, io: CliIo): void {
  const bench = program.command('bench').description('measure; one suite a command');
  for (const suite of SUITES) {
    const command = bench
      .command(suite.name)
      .description(suite.summary)
      .option('--json', 'as one JSON document');
    if (suite.plot !== undefined) command.option('--svg <file>', 'draw the result into this file');
    for (const [flag, { kind, default: fallback, help }] of Object.entries(suite.parameters)) {
      command.option(`--${flag} <${kind.metavar}>`, help, fallback);
    }
    command.action((options: Record<string, string>) => runSuite(suite, options, io));
  }
}

async function runSuite(suite: Suite, options: Record<string, unknown>, io: CliIo): Promise<void> {
  const json = options.json === true;
  const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
  const values: Record<string, unknown> = {};
  const words = [`bridgekeeper bench ${suite.name}`];
  for (const [flag, { kind, default: fallback }] of Object.entries(suite.parameters)) {
    const given = String(options[flag.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())]);
    try {
      values[flag] = kind.parse(given);
    } catch (error) {
      throw new UsageError('bad-value', `--${flag}: ${(error as Error).message}`);
    }
    if (given !== fallback) words.push(`--${flag} ${given}`);
  }
  const { device, runs } = await suite.run(values, io.err);
  const { version } = readVersion();
  const result = benchResult(
    suite.name,
    { version, command: words.join(' '), startedAt },
    device,
    runs,
  );
  if (suite.plot !== undefined && typeof options.svg === 'string') {
    io.writeFile(options.svg, plotRuns(runs, suite.plot));
  }
  io.out(json ? JSON.stringify(result, null, 1) : tableOf(runs));
}
