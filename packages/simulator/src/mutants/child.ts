import { register } from 'node:module';
import { FLEET_MUTANTS } from './fleet-mutants.ts';
import type { Change } from './hooks.ts';
import { MUTANTS } from './mutants.ts';

/** What a process says of one mutant, as its last line. */
export interface MutantFound {
  readonly seed: number | null;
  readonly invariant: string | null;
  readonly what: string | null;
  readonly seeds: number;
  readonly processorSeconds: number;
}

// A process of its own for each mutant: modules are loaded once.
const [name, first, last] = process.argv.slice(2);
const mutant = [...MUTANTS, ...FLEET_MUTANTS].find((each) => each.name === name);
if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
const url = new URL(`../../../${mutant.file}`, import.meta.url).href;
const data: Change = { url, find: mutant.find, replace: mutant.replace };
register('./hooks.js', import.meta.url, { data });
const isFleet = FLEET_MUTANTS.includes(mutant);
const { simulate } = await import('../simulate.ts');
let found: MutantFound | undefined;
for (let seed = Number(first); seed <= Number(last) && found === undefined; seed++) {
  const { violations } = await simulate({ seed, isFleet });
  const [violation] = violations;
  if (violation === undefined) continue;
  const { invariant, what } = violation;
  found = { seed, invariant, what, seeds: seed - Number(first) + 1, processorSeconds: seconds() };
}
found ??= {
  seed: null,
  invariant: null,
  what: null,
  seeds: Number(last) - Number(first) + 1,
  processorSeconds: seconds(),
};
process.stdout.write(`${JSON.stringify(found)}\n`);

function seconds(): number {
  const { user, system } = process.cpuUsage();
  return Math.round((user + system) / 1e4) / 100;
}
