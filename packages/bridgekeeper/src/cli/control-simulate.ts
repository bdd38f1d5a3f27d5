import { flag, integer, onOff, type Values } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';

const FLAGS = {
  seeds: flag(integer(1, 1_000_000), 20, 'how many fleets, one a seed'),
  seed: flag(integer(1, 2 ** 31), 1, 'the first of them'),
  steps: flag(integer(1, 100_000), 400, 'what happens in each'),
  hosts: flag(integer(1, 64), 3, 'hosts of each'),
  json: flag(onOff(), false, 'as one JSON document'),
};

export const CONTROL_SIMULATE: CliCommand<typeof FLAGS> = {
  name: 'control simulate',
  summary: 'fleets in virtual time under faults of everything, judged by what is true',
  flags: FLAGS,
  notes: 'Exits with 1 if a promise was broken; the same seed has the same history.',
  run: ({ values }, io) => simulate(values, io),
};

async function simulate(values: Values<typeof FLAGS>, io: CliIo): Promise<0 | 1> {
  const { simulateFleet } = await import('@bridgekeeper/control');
  const { seeds, seed: first, steps, hosts, json } = values;
  const counts: Record<string, number> = {};
  const broken: { seed: number; what: readonly string[] }[] = [];
  for (let seed = first; seed < first + seeds; seed += 1) {
    io.redraw?.(`seed ${seed}`);
    const result = await simulateFleet({ seed, steps, hosts });
    if (result.broken.length > 0) broken.push({ seed, what: result.broken });
    for (const [name, count] of Object.entries(result.counts)) {
      counts[name] = (counts[name] ?? 0) + count;
    }
  }
  io.redraw?.('');
  if (json) io.out(JSON.stringify({ seeds, first, steps, hosts, counts, broken }));
  else {
    for (const { seed, what } of broken) io.out(`seed ${seed}: ${what[0]}`);
    const all = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
    io.out(`${seeds} fleets, ${broken.length} broke a promise; ${all.join(', ')}`);
  }
  return broken.length === 0 ? 0 : 1;
}
