import { fileURLToPath } from 'node:url';
import { runSuite, SUITES, suiteFlags } from '@bridgekeeper/bench';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';

const MAIN = fileURLToPath(new URL('../main.js', import.meta.url));

export const BENCH = SUITES.map((suite): CliCommand => {
  return {
    name: `bench ${suite.name}`,
    summary: suite.summary,
    flags: suiteFlags(suite),
    run: (resolved, io) => runSuite(suite, resolved, readVersion().version, { ...io, main: MAIN }),
  };
});
