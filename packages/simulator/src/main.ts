import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { coverageTable } from './coverage.ts';
import { FAULT_NAMES } from './faults.ts';
import { FLEET_FAULT_NAMES } from './fleet/faults.ts';
import { type Figures, runShared, type SeedFailure } from './jobs.ts';
import { findMutants } from './mutants/find.ts';
import { FLEET_MUTANTS } from './mutants/fleet-mutants.ts';
import { MUTANTS } from './mutants/mutants.ts';
import { replayCommand, shrink } from './shrink.ts';
import { type AnyFaultName, type SimulationResult, simulate } from './simulate.ts';

const HELP = `usage: npm run simulate -- [flags]
  --seed N          one seed (default 1)
  --seeds A..B      many seeds, one after the other
  --requests N      that clients send; default: the seed says
  --faults A,B      kinds of faults, "none" or "all"; default: the seed says
                    ${FAULT_NAMES.join(' ')}
                    and of a fleet: ${FLEET_FAULT_NAMES.join(' ')}
  --jobs N          processes that share the seeds (default 1)
  --fleet           a fleet: control, agents, fabric and guests besides
  --history FILE    writes what happened, a line each
  --keep-going      after a seed that failed; else it is the last
  --seconds N       begins nothing more after so long
  --no-shrink       leaves a failure as large as it is
  --mutants A,B     puts bugs into the product and says which seed finds each; "all"
  --json            one JSON document on standard output
`;

const print = (text: string) => process.stdout.write(`${text}\n`);
const tell = (text: string) => process.stderr.write(`${text}\n`);

class BadArgument extends Error {}

function options() {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      seeds: { type: 'string' },
      requests: { type: 'string' },
      faults: { type: 'string' },
      jobs: { type: 'string' },
      seconds: { type: 'string' },
      'keep-going': { type: 'boolean' },
      fleet: { type: 'boolean' },
      history: { type: 'string' },
      mutants: { type: 'string' },
      'no-shrink': { type: 'boolean' },
      // Of a process that has a share of the seeds.
      own: { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  const range = /^(\d+)\.\.(\d+)$/.exec(values.seeds ?? `${values.seed ?? 1}..${values.seed ?? 1}`);
  if (range === null) throw new BadArgument('--seeds: must be A..B, as in 1..1000');
  const requests = values.requests === undefined ? undefined : Number(values.requests);
  if (requests !== undefined && !(Number.isSafeInteger(requests) && requests > 0)) {
    throw new BadArgument('--requests: must be a whole number from 1 on');
  }
  const jobs = Number(values.jobs ?? 1);
  if (!(Number.isSafeInteger(jobs) && jobs > 0)) {
    throw new BadArgument('--jobs: must be a whole number from 1 on');
  }
  const seconds = values.seconds === undefined ? Infinity : Number(values.seconds);
  if (!(seconds > 0)) throw new BadArgument('--seconds: must be a number above 0');
  if (jobs > 1 && values.history !== undefined) {
    throw new BadArgument('--history: of one process alone, without --jobs');
  }
  const passedOn = [
    ...(values.requests === undefined ? [] : ['--requests', values.requests]),
    ...(values.faults === undefined ? [] : ['--faults', values.faults]),
    ...(values.fleet === true ? ['--fleet'] : []),
    ...(values['keep-going'] === true ? ['--keep-going'] : []),
    ...(values.seconds === undefined ? [] : ['--seconds', values.seconds]),
  ];
  return {
    jobs,
    endsNs: HOST_CLOCK.nowNs() + seconds * 1e9,
    keepsGoing: values['keep-going'] === true,
    passedOn,
    isOwn: values.own === true,
    first: Number(range[1]),
    last: Number(range[2]),
    requests,
    faults: faultsOf(values.faults),
    isFleet: values.fleet,
    history: values.history,
    mutants: values.mutants,
    shrinks: values['no-shrink'] !== true,
    isJson: values.json === true,
    wantsHelp: values.help === true,
  };
}

function faultsOf(text: string | undefined): readonly AnyFaultName[] | undefined {
  if (text === undefined) return undefined;
  if (text === 'none') return [];
  const known: readonly string[] = [...FAULT_NAMES, ...FLEET_FAULT_NAMES];
  if (text === 'all') return known as AnyFaultName[];
  const names = text.split(',');
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new BadArgument(`--faults: there is no ${unknown}; there are ${known.join(', ')}`);
  }
  return names as AnyFaultName[];
}

const processorSeconds = (usage: NodeJS.CpuUsage) => (usage.user + usage.system) / 1e6;

async function main(): Promise<number> {
  const wanted = options();
  if (wanted.wantsHelp) {
    print(HELP);
    return 0;
  }
  if (wanted.mutants !== undefined) return lookForMutants(wanted.mutants, wanted);
  const { first, last, isJson } = wanted;
  // Many are run by processes of their own.
  const isShared = first !== last && !wanted.isOwn && wanted.history === undefined;
  const figures = isShared
    ? await runShared(fileURLToPath(import.meta.url), first, last, wanted.jobs, wanted.passedOn)
    : await runHere(wanted);
  if (isJson) print(JSON.stringify(figures, null, 2));
  else if (first !== last) {
    const { coverage, seeds, requests, processorSeconds } = figures;
    for (const { what, count } of coverage) print(`${String(count).padStart(9)}  ${what}`);
    print(`${seeds} seeds, ${requests} requests, ${processorSeconds.toFixed(1)} s of processor`);
  }
  const [failure, ...more] = figures.failures;
  if (failure === undefined) return 0;
  for (const { seed, invariant, what } of more) tell(`seed ${seed}: ${invariant}: ${what}`);
  if (!wanted.isOwn) await showFailure(failure.seed, wanted);
  return 1;
}

type Wanted = ReturnType<typeof options>;

/** Seeds in this process, one after the other. */
async function runHere(wanted: Wanted): Promise<Figures> {
  const { first, last, requests, faults, isFleet, history, isJson, endsNs, keepsGoing } = wanted;
  const began = process.cpuUsage();
  const results: SimulationResult[] = [];
  const failures: SeedFailure[] = [];
  for (let seed = first; seed <= last && HOST_CLOCK.nowNs() < endsNs; seed++) {
    const keepsHistory = history !== undefined;
    const result = await simulate({ seed, requests, faults, isFleet, keepsHistory });
    results.push({ ...result, history: null });
    if (history !== undefined) writeFileSync(history, `${result.history!.join('\n')}\n`);
    if (!isJson && first === last) print(summaryOf(result));
    const [violation] = result.violations;
    if (violation === undefined) continue;
    failures.push({ seed, ...violation });
    if (!keepsGoing) break;
  }
  return {
    machine: { node: process.versions.node, platform: process.platform },
    seeds: results.length,
    requests: results.reduce((sum, { counts }) => sum + (counts.sent ?? 0), 0),
    processorSeconds: processorSeconds(process.cpuUsage(began)),
    failures,
    coverage: coverageTable(results.map((each) => each.coverage)),
    digests: results.map(({ seed, digest }) => ({ seed, digest })),
  };
}

/** What failed, what runs it again, and how little is needed for it. */
async function showFailure(seed: number, { requests, faults, isFleet, shrinks }: Wanted) {
  const failed = await simulate({ seed, requests, faults, isFleet });
  const [violation] = failed.violations;
  tell(`seed ${seed}: ${violation?.invariant}: ${violation?.what}`);
  tell(`again: ${replayCommand(failed)}`);
  if (!shrinks || violation === undefined) return;
  const small = await shrink(failed, 40, tell);
  tell(`smaller: ${replayCommand(small)}`);
  for (const line of small.result.history?.slice(-20) ?? []) tell(line);
}

function summaryOf(result: SimulationResult): string {
  const { seed, digest, counts, virtualSeconds, steps, faults, requests } = result;
  return [
    `seed ${seed}, ${requests} requests, faults: ${faults.join() || 'none'}`,
    `${virtualSeconds.toFixed(1)} s of virtual time, ${steps} events, ${JSON.stringify(counts)}`,
    `history ${digest}`,
  ].join('\n');
}

async function lookForMutants(text: string, wanted: Wanted): Promise<number> {
  const { first, last, isJson, jobs, endsNs } = wanted;
  const all = [...MUTANTS, ...FLEET_MUTANTS];
  const names = text === 'all' ? all.map(({ name }) => name) : text.split(',');
  const unknown = names.find((name) => !all.some((each) => each.name === name));
  if (unknown !== undefined) {
    const known = all.map((each) => each.name).join(', ');
    throw new BadArgument(`--mutants: there is no ${unknown}; there are ${known}`);
  }
  const until = last === first ? first + 999 : last;
  const found = await findMutants(names, first, until, { jobs, endsNs, tell });
  const mutants = found.map((row) => ({
    bug: all.find(({ name }) => name === row.name)!.what,
    ...row,
  }));
  if (isJson) print(JSON.stringify({ node: process.versions.node, mutants }, null, 2));
  return mutants.every(({ seed }) => seed !== null) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof BadArgument)) throw error;
  tell(error.message);
  process.exitCode = 2;
}
