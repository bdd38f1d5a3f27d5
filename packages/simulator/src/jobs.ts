import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type CoverageRow, coverageTable } from './coverage.ts';
import type { Violation } from './world/judge.ts';

export interface SeedFailure extends Violation {
  readonly seed: number;
}

/** What came of many seeds. */
export interface Figures {
  readonly machine: { readonly node: string; readonly platform: string };
  readonly seeds: number;
  readonly requests: number;
  readonly processorSeconds: number;
  /** Those that broke a promise, and which first. */
  readonly failures: readonly SeedFailure[];
  readonly coverage: readonly CoverageRow[];
  readonly digests: readonly { readonly seed: number; readonly digest: string }[];
}

/** Simulations leave much behind that is soon nobody's: a larger nursery costs less of it twice. */
export const NODE_FLAGS = ['--max-semi-space-size=32'];

/**
 * Seeds `first` to `last`, shared by so many processes of the script `main`, each of which takes
 * these flags.
 */
export async function runShared(
  main: string,
  first: number,
  last: number,
  jobs: number,
  flags: readonly string[],
): Promise<Figures> {
  const count = last - first + 1;
  const bounds = Array.from({ length: jobs + 1 }, (_, job) =>
    Math.round(first + (count * job) / jobs),
  );
  const ranges = bounds.slice(1).map((to, job) => `${bounds[job]}..${to - 1}`);
  const run = async (range: string): Promise<Figures> => {
    const args = [...NODE_FLAGS, main, '--json', '--own', '--seeds', range, ...flags];
    const options = { maxBuffer: 2 ** 28 };
    const { stdout } = await promisify(execFile)(process.execPath, args, options).catch(
      (error: Error & { stdout: string }) => {
        // It ends so where seeds have failed, and says which.
        if (!error.stdout.startsWith('{')) throw error;
        return error;
      },
    );
    return JSON.parse(stdout) as Figures;
  };
  const all = await Promise.all(ranges.map(run));
  const sum = (of: (figures: Figures) => number) =>
    all.reduce((total, each) => total + of(each), 0);
  const counts = all.map(({ coverage }) => new Map(coverage.map((row) => [row.what, row.count])));
  return {
    machine: all[0]!.machine,
    seeds: sum(({ seeds }) => seeds),
    requests: sum(({ requests }) => requests),
    processorSeconds: sum(({ processorSeconds }) => processorSeconds),
    failures: all.flatMap(({ failures }) => failures),
    coverage: coverageTable(counts),
    digests: all.flatMap(({ digests }) => digests),
  };
}
