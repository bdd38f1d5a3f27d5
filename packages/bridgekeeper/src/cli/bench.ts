import { runSuite, SUITES, suiteFlags } from '@bridgekeeper/bench';
import { LAUNCHER } from '../launcher.ts';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';

export const BENCH = SUITES.map((suite): CliCommand => {
  return {
    name: `bench ${suite.name}`,
    summary: suite.summary,
    flags: suiteFlags(suite),
    run: (resolved, io) =>
      runSuite(suite, resolved, readVersion().version, { ...io, main: LAUNCHER }),
  };
});
