import { type LoadFaultName, mendLoads, troubleLoad } from './load-faults.ts';
import type { DeviceFault } from './product/device-trouble.ts';
import type { ServerProcess } from './product/server-process.ts';
import type { World } from './product/world.ts';
import type { Random } from './world/random.ts';

/** One kind of trouble: how long between two of them, and what each does. */
interface Fault {
  /** On average. */
  readonly everyNs: number;
  begin(trouble: Trouble): void;
}

export interface Trouble {
  readonly world: World;
  readonly random: Random;
  /** One server, drawn. */
  readonly server: ServerProcess;
  /** How long it lasts, of at most so long: in a dense storm nothing lasts for long. */
  lasts(mostNs: number): number;
  /** Later, unless all is calm by then. */
  later(delayNs: number, action: () => void): void;
}

const device = (fault: DeviceFault, everyNs: number): Fault => ({
  everyNs,
  begin: ({ server }) => server.trouble.fail(fault),
});

/** Brings trouble to the loading of weights, and has a server load again. */
const load = (name: LoadFaultName, everyNs: number): Fault => ({
  everyNs,
  begin: ({ world, server, random }) => {
    if (!server.hasWeights) return;
    troubleLoad(world, server, random, name);
    server.kill();
  },
});

/** What can go wrong, by the name that `--faults` has. Add one here; it is on in half the seeds. */
const FAULTS = {
  kill: { everyNs: 2e9, begin: ({ server }) => server.kill() },
  power: { everyNs: 3e9, begin: ({ server }) => server.losePower() },
  term: {
    everyNs: 2.5e9,
    begin: ({ server, random }) => server.stop(random.of([0, 0.5, 5, 30])),
  },
  'gateway-kill': { everyNs: 2e9, begin: ({ world }) => world.gateway?.kill() },
  pause: {
    everyNs: 0.6e9,
    begin: ({ server, world, lasts }) => {
      server.life.stoppedUntilNs = Math.ceil(world.loop.nowNs + lasts(8e9));
    },
  },
  wall: {
    everyNs: 0.5e9,
    begin: ({ server, random }) => {
      server.life.wallOffSeconds += random.of([-1e6, -3600, -1, 1, 3600, 1e6]);
    },
  },
  'wall-stands': {
    everyNs: 1e9,
    begin: ({ server, lasts, later }) => {
      const { life } = server;
      life.wallStandsMs = life.unixMs();
      later(lasts(20e9), () => {
        life.wallStandsMs = null;
      });
    },
  },
  'memory-short': {
    everyNs: 1e9,
    begin: ({ server, random }) => {
      server.life.availableBytes = random.of([0, 2 ** 20, 2 ** 31, 2 ** 36]);
    },
  },
  upgrade: {
    everyNs: 3e9,
    begin: ({ server, random }) => server.upgrade(random),
  },
  flip: {
    everyNs: 0.3e9,
    begin: ({ server, random }) => {
      const paths = server.disk.list(`/sim/${server.host}`).filter((name) => name.includes('-kv-'));
      if (paths.length > 0) server.disk.flip(`/sim/${server.host}/${random.of(paths)}`);
    },
  },
  'disk-full': {
    everyNs: 1.5e9,
    begin: ({ server, lasts, later }) => {
      server.disk.faults.isFull = true;
      later(lasts(6e9), () => {
        server.disk.faults.isFull = false;
      });
    },
  },
  'disk-errors': {
    everyNs: 1.5e9,
    begin: ({ server, lasts, later }) => {
      server.disk.faults.failing = 0.2;
      later(lasts(4e9), () => {
        server.disk.faults.failing = 0;
      });
    },
  },
  'context-lost': device('context-lost', 6e9),
  'copy-failed': device('copy-failed', 6e9),
  'lane-lost': device('lane-lost', 6e9),
  // Each lane stands still while its key is changed, one copy after the other.
  'key-storm': {
    everyNs: 1e9,
    begin: ({ server, world, lasts }) => server.trouble.slow(world.loop.nowNs + lasts(1e9), 20e6),
  },
  // The bridge costs more than what the engine knows of it.
  'law-changes': {
    everyNs: 2e9,
    begin: ({ server, world, lasts }) => server.trouble.slow(world.loop.nowNs + lasts(8e9), 1e6),
  },
  hang: device('hang', 12e9),
  loss: {
    everyNs: 0.8e9,
    begin: ({ world, lasts, later }) => {
      world.network.quality.loss = 0.1;
      later(lasts(3e9), () => {
        world.network.quality.loss = 0;
      });
    },
  },
  split: {
    everyNs: 0.4e9,
    begin: ({ world, lasts, later }) => {
      world.network.quality.split = 0.5;
      later(lasts(3e9), () => {
        world.network.quality.split = 0;
      });
    },
  },
  cut: {
    everyNs: 2e9,
    begin: ({ world, random, server, lasts, later }) => {
      world.network.cut(server.host, random.of(['clients', 'gateway']));
      later(lasts(30e9), () => world.network.heal());
    },
  },
  reset: {
    everyNs: 0.2e9,
    begin: ({ world, random }) => {
      const sockets = [...world.network.sockets];
      if (sockets.length > 0) random.of(sockets).breakOff();
    },
  },
  'load-short': load('load-short', 3e9),
  'load-errors': load('load-errors', 3e9),
  'load-flip': load('load-flip', 3e9),
  'load-hit': load('load-hit', 2e9),
} as const satisfies Readonly<Record<string, Fault>>;

export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as readonly FaultName[];

/** Some storms are denser than others. */
const HASTE = [1, 3, 10, 30] as const;
/** Clients that do not think are done before much could happen. */
const BUSY_HASTE = 5;
const BUSY_THINK_NS = 10e6;

/**
 * Some wait until the disk of a server has been written to, and happen soon after it: what is
 * between two writes that belong together is short.
 */
const AIMED_SHARE = 0.3;
const AIMED_NS = 2e6;

/** Lets the chosen kinds happen again and again until the world is calm. */
export function unleash(
  world: World,
  random: Random,
  chosen: readonly FaultName[],
  thinkNs: number,
): void {
  const { loop, judge } = world;
  const haste = random.of(HASTE) * (thinkNs < BUSY_THINK_NS ? BUSY_HASTE : 1);
  const later = (inNs: number, action: () => void) => {
    loop.at(loop.nowNs + inNs, () => world.isCalm || action(), null);
  };
  const lasts = (mostNs: number) => random.below(mostNs) / haste;
  for (const name of chosen) {
    const fault: Fault = FAULTS[name];
    const next = () => {
      // Between half and three halves of its time: as likely early as late.
      const delayNs = (fault.everyNs * (0.5 + random.unit())) / haste;
      loop.at(
        loop.nowNs + delayNs,
        () => {
          if (world.isCalm) return;
          const server = random.of(world.servers);
          const begin = () => {
            if (world.isCalm) return;
            judge.note(`fault ${name} at ${server.host}`);
            judge.reached(`fault: ${name}`);
            fault.begin({ world, random, server, lasts, later });
          };
          if (random.chance(AIMED_SHARE)) {
            server.disk.afterSync = () => later(random.below(AIMED_NS), begin);
          } else begin();
          next();
        },
        null,
      );
    };
    next();
  }
}

/** Ends everything that lasts. */
export function calm(world: World): void {
  world.calmSinceNs = world.loop.nowNs;
  world.network.heal();
  world.network.quality.loss = 0;
  world.network.quality.split = 0;
  for (const server of world.servers) {
    server.life.wallStandsMs = null;
    server.trouble.calm();
    server.disk.faults.isFull = false;
    server.disk.faults.failing = 0;
    server.disk.faults.isLying = false;
    mendLoads(server);
  }
}
