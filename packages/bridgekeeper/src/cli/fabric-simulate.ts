import type { SimulationOptions, SimulationResult } from '@bridgekeeper/fabric';
import { flag, integer, number, onOff, text, type Values } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import { progressBar } from '../progress-bar.ts';
import type { CliCommand } from './command.ts';
import { stopSignal } from './stop-signal.ts';

const FLAGS = {
  seeds: flag(integer(1, 1_000_000), 1000, 'how many hosts are simulated'),
  first: flag(integer(0, 2 ** 31), 1, 'the first seed'),
  storm: flag(integer(0, 86_400), 900, 'how long things go wrong on each, in virtual seconds'),
  faults: flag(number(0, 1), 0.05, 'how likely a call fails in a storm'),
  crashes: flag(number(0, 1), 0.003, 'how likely the agent ends at each await in a storm'),
  everyAwait: flag(onOff(), false, 'one host without a storm, once for each await: it ends there'),
  operators: flag(onOff(), false, 'what happened to operators of such fabrics, in place of seeds'),
  history: flag(text('file'), undefined, 'write what happened on the first seed here'),
  json: flag(onOff(), false, 'as one JSON document'),
};

type Flags = Values<typeof FLAGS>;

export const FABRIC_SIMULATE: CliCommand<typeof FLAGS> = {
  name: 'fabric simulate',
  summary: 'hold the agent to its invariants, in virtual time, through faults and crashes',
  flags: FLAGS,
  notes: 'The same flags have the same history, byte for byte. Exits with 1 if one is broken.',
  run: ({ values }, io) => runSimulations(values, io),
};

async function runSimulations(flags: Flags, io: CliIo): Promise<0 | 1> {
  const { simulate } = await import('@bridgekeeper/fabric');
  const { createHash } = await import('node:crypto');
  const runs = await runsOf(flags);
  const stop = stopSignal(io);
  const digest = createHash('sha256');
  const failed: Pick<SimulationResult, 'seed' | 'violations' | 'unfinished'>[] = [];
  const counts = { simulations: 0, awaits: 0, crashes: 0, faults: 0 };
  for (const options of runs) {
    if (stop.aborted) break;
    const result = await simulate(options);
    const { seed, violations, unfinished, awaits, crashes, faults } = result;
    if (counts.simulations === 0 && flags.history !== undefined) {
      io.writeFile(flags.history, `${result.history.join('\n')}\n`);
    }
    counts.simulations += 1;
    counts.awaits += awaits;
    counts.crashes += crashes;
    counts.faults += faults;
    digest.update(result.digest);
    if (violations.length + unfinished.length > 0) failed.push({ seed, violations, unfinished });
    io.redraw?.(`${progressBar(counts.simulations, runs.length)} seed ${seed}`);
  }
  io.redraw?.('');
  const document = { ...counts, failed, historyDigest: digest.digest('hex') };
  if (flags.json) io.out(JSON.stringify(document));
  else for (const line of linesOf(document)) io.out(line);
  return failed.length === 0 && counts.simulations === runs.length ? 0 : 1;
}

async function runsOf(flags: Flags): Promise<readonly SimulationOptions[]> {
  if (flags.operators) return ofOperators(flags);
  return flags.everyAwait ? everyAwait(flags) : stormy(flags);
}

async function ofOperators({ first }: Flags): Promise<SimulationOptions[]> {
  const { SCENARIO_ROUNDS, SCENARIOS } = await import('@bridgekeeper/fabric');
  const calm = { seed: first, stormSeconds: 0, faultProbability: 0, crashProbability: 0 };
  return SCENARIOS.map(({ wanted, happen = () => undefined }) => ({
    ...calm,
    roundsMin: SCENARIO_ROUNDS,
    wanted,
    happen,
  }));
}

function stormy({ seeds, first, storm, faults, crashes }: Flags): SimulationOptions[] {
  return Array.from({ length: seeds }, (_, index) => ({
    seed: first + index,
    stormSeconds: storm,
    faultProbability: faults,
    crashProbability: crashes,
  }));
}

async function everyAwait({ first }: Flags): Promise<SimulationOptions[]> {
  const { simulate } = await import('@bridgekeeper/fabric');
  const calm = { seed: first, stormSeconds: 0, faultProbability: 0, crashProbability: 0 };
  const { awaits } = await simulate(calm);
  return Array.from({ length: awaits }, (_, index) => ({ ...calm, crashAt: index + 1 }));
}

function linesOf(document: {
  readonly simulations: number;
  readonly awaits: number;
  readonly crashes: number;
  readonly faults: number;
  readonly failed: readonly Pick<SimulationResult, 'seed' | 'violations' | 'unfinished'>[];
  readonly historyDigest: string;
}): string[] {
  const { simulations, awaits, crashes, faults, failed, historyDigest } = document;
  return [
    ...failed.flatMap(({ seed, violations, unfinished }) => [
      ...violations.map(({ invariant, what }) => `seed ${seed}: invariant ${invariant}: ${what}`),
      ...unfinished.map((what) => `seed ${seed}: not come about: ${what}`),
    ]),
    `${simulations} hosts: ${awaits} awaits, ${crashes} crashes, ${faults} faults`,
    failed.length === 0 ? 'every invariant held' : `${failed.length} of them broke an invariant`,
    `history     ${historyDigest}`,
  ];
}
