import type { ServerProcess } from './product/server-process.ts';
import type { World } from './product/world.ts';
import type { Random } from './world/random.ts';

/** What can go wrong with the next load of a server's weights. */
const LOAD_FAULTS = {
  /** Reads bring less than was asked for. */
  'load-short': ({ disk }) => {
    disk.faults.short = 0.5;
  },
  'load-errors': ({ disk }) => {
    disk.faults.misreading = 0.1;
  },
  'load-flip': ({ disk, weightsPath }) => {
    disk.flip(weightsPath);
  },
  /** Something happens to the server soon after it has begun to read. */
  'load-hit': (server, random, world) => {
    const hit = random.of(HITS);
    server.disk.afterRead = () => {
      const atNs = world.loop.nowNs + random.below(LOAD_NS);
      world.loop.at(atNs, () => world.isCalm || hitLoad(server, hit), null);
    };
  },
} as const satisfies Readonly<
  Record<string, (server: ServerProcess, random: Random, world: World) => void>
>;

export type LoadFaultName = keyof typeof LOAD_FAULTS;

const HITS = [
  ...(['context-lost', 'copy-failed', 'lane-lost'] as const),
  ...(['kill', 'power', 'term', 'memory-short'] as const),
] as const;
/** About what a load takes. */
const LOAD_NS = 0.4e6;
/** A server that was ended, or refused to start, has begun to load again by then. */
const NEXT_LOAD_NS = 2.5e9;
const FIRST_SHARE = 0.5;

/** Until the server has had time to load again, or all is calm. */
export function troubleLoad(
  world: World,
  server: ServerProcess,
  random: Random,
  name: LoadFaultName,
): void {
  const { loop, judge } = world;
  judge.reached(`trouble of a load: ${name}`);
  LOAD_FAULTS[name](server, random, world);
  loop.at(loop.nowNs + NEXT_LOAD_NS, () => mendLoads(server), null);
}

/** Storms are often over before a server has started again: some of the first loads fail, too. */
export function troubleFirstLoads(world: World, random: Random, chosen: readonly string[]): void {
  const names = Object.keys(LOAD_FAULTS) as readonly LoadFaultName[];
  for (const server of world.servers) {
    for (const name of names) {
      if (!server.hasWeights || !chosen.includes(name) || !random.chance(FIRST_SHARE)) continue;
      troubleLoad(world, server, random, name);
    }
  }
}

/** What is read of the weights is what was written there, from now on. */
export function mendLoads({ disk, weightsPath }: ServerProcess): void {
  disk.faults.misreading = 0;
  disk.faults.short = 0;
  disk.mend(weightsPath);
}

function hitLoad(server: ServerProcess, hit: (typeof HITS)[number]): void {
  if (hit === 'kill') server.kill();
  else if (hit === 'power') server.losePower();
  else if (hit === 'term') server.stop(0);
  else if (hit === 'memory-short') server.life.availableBytes = 0;
  else server.trouble.fail(hit);
}
