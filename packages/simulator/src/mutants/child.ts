import { FLEET_WITHOUT, NO_BUG, plant } from './plant.ts';

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
const { isFleet } = name!.startsWith(NO_BUG) ? { isFleet: name === FLEET_WITHOUT } : plant(name);
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
