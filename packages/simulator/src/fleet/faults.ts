import { GATEWAY_HOST } from '../product/gateway-process.ts';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import type { Random } from '../world/random.ts';
import type { AgentProcess } from './agent-process.ts';
import type { ControlProcess } from './control-process.ts';
import { DATABASE_HOST } from './database.ts';
import type { Fleet } from './fleet.ts';

/** One kind of trouble: how long between two of them, and what each does. */
interface FleetFault {
  /** On average. */
  readonly everyNs: number;
  /** What it happens soon after, at times: a statement of a control, or a write of an agent. */
  readonly aim?: 'database' | 'disk';
  begin(trouble: FleetTrouble): void;
}

interface FleetTrouble {
  readonly world: World;
  readonly fleet: Fleet;
  readonly random: Random;
  /** One control and one agent, drawn. */
  readonly control: ControlProcess;
  readonly agent: AgentProcess;
  /** How long it lasts, of at most so long: in a dense storm nothing lasts for long. */
  lasts(mostNs: number): number;
  /** Later, unless all is calm by then. */
  later(delayNs: number, action: () => void): void;
}

const WALL_SECONDS = [-3600, -30, -1, 1, 30, 3600] as const;

/** What can go wrong with a fleet, by the name that `--faults` has. */
const FLEET_FAULTS = {
  'control-kill': {
    everyNs: 15e9,
    aim: 'database',
    begin: ({ control }) => control.kill(),
  },
  'control-power': {
    everyNs: 20e9,
    aim: 'database',
    begin: ({ control }) => control.losePower(),
  },
  'control-pause': {
    everyNs: 10e9,
    aim: 'database',
    begin: ({ control, lasts }) => control.pause(lasts(30e9)),
  },
  'control-wall': {
    everyNs: 15e9,
    aim: 'database',
    begin: ({ control, random }) => {
      control.life.wallOffSeconds += random.of(WALL_SECONDS);
    },
  },
  'database-restart': {
    everyNs: 15e9,
    aim: 'database',
    begin: ({ fleet }) => fleet.database.restart(),
  },
  'agent-kill': { everyNs: 10e9, aim: 'disk', begin: ({ agent }) => agent.kill() },
  'agent-pause': {
    everyNs: 15e9,
    aim: 'disk',
    begin: ({ agent, lasts }) => agent.pause(lasts(60e9)),
  },
  'agent-wall': {
    everyNs: 15e9,
    aim: 'disk',
    begin: ({ agent, random }) => {
      agent.life.wallOffSeconds += random.of(WALL_SECONDS);
    },
  },
  'host-power': {
    everyNs: 30e9,
    aim: 'disk',
    begin: ({ agent }) => agent.losePower(),
  },
  'guest-crash': {
    everyNs: 15e9,
    begin: ({ fleet, random }) => random.of(fleet.vmms).crash(random),
  },
  'vmm-fails': {
    everyNs: 15e9,
    begin: ({ fleet, random, lasts, later }) => {
      const vmm = random.of(fleet.vmms);
      vmm.failing = 0.3;
      later(lasts(10e9), () => {
        vmm.failing = 0;
      });
    },
  },
  'fabric-kill': {
    everyNs: 8e9,
    begin: ({ fleet, random }) => {
      if (fleet.fabrics.length > 0) random.of(fleet.fabrics).kill();
    },
  },
  'manager-stops': {
    everyNs: 30e9,
    begin: ({ fleet, random }) => {
      if (fleet.fabrics.length > 0) random.of(fleet.fabrics).board.fm.stop();
    },
  },
  'fleet-gateway-kill': { everyNs: 20e9, begin: ({ world }) => world.gateway?.kill() },
  'fleet-loss': {
    everyNs: 10e9,
    begin: ({ world, lasts, later }) => {
      world.network.quality.loss = 0.1;
      later(lasts(10e9), () => {
        world.network.quality.loss = 0;
      });
    },
  },
  'fleet-cut': {
    everyNs: 10e9,
    begin: ({ world, fleet, random, lasts, later }) => {
      const hosts = [...fleet.controls, ...fleet.agents].map(({ host }) => host);
      const one = random.of(hosts);
      const others = [...hosts, DATABASE_HOST, GATEWAY_HOST].filter((host) => host !== one);
      for (const other of random.chance(0.5) ? others : [random.of(others)]) {
        world.network.cut(one, other);
      }
      later(lasts(60e9), () => world.network.heal());
    },
  },
  'fleet-reset': {
    everyNs: 3e9,
    begin: ({ world, random }) => {
      const sockets = [...world.network.sockets];
      if (sockets.length > 0) random.of(sockets).breakOff();
    },
  },
} as const satisfies Readonly<Record<string, FleetFault>>;

export type FleetFaultName = keyof typeof FLEET_FAULTS;
export const FLEET_FAULT_NAMES = Object.keys(FLEET_FAULTS) as readonly FleetFaultName[];

/** Some storms are denser than others. */
const HASTE = [1, 2, 4] as const;

/** What is between two steps that belong together is short: so many happen soon after one. */
const AIMED_SHARE = 0.5;
const AIMED_NS = { database: 5e6, disk: 60e6 } as const;

/** Lets the chosen kinds happen again and again until the world is calm. */
export function unleashOn(
  fleet: Fleet,
  world: World,
  random: Random,
  chosen: readonly FleetFaultName[],
): void {
  const { loop, judge } = world;
  const haste = random.of(HASTE);
  const lasts = (mostNs: number) => random.below(mostNs) / haste;
  const later = (inNs: number, action: () => void) => {
    loop.at(loop.nowNs + inNs, () => world.isCalm || action(), null);
  };
  for (const name of chosen) {
    const fault: FleetFault = FLEET_FAULTS[name];
    const next = () => {
      const delayNs = (fault.everyNs * (0.5 + random.unit())) / haste;
      loop.at(
        loop.nowNs + delayNs,
        () => {
          if (world.isCalm) return;
          const agent = random.of(fleet.agents);
          const drawn = random.of(fleet.controls);
          const begin = (control: ControlProcess) => {
            judge.note(`fault ${name}`);
            judge.reached(`fault: ${name}`);
            fault.begin({ world, fleet, random, control, agent, lasts, later });
          };
          const { aim } = fault;
          if (aim === undefined || !random.chance(AIMED_SHARE)) begin(drawn);
          else if (aim === 'disk') {
            agent.disk.afterSync = () => later(random.below(AIMED_NS.disk), () => begin(drawn));
          } else {
            fleet.database.afterStatement = (life: Life) => {
              const control = fleet.controls.find((each) => each.life === life) ?? drawn;
              later(random.below(AIMED_NS.database), () => begin(control));
            };
          }
          next();
        },
        null,
      );
    };
    next();
  }
}

/** Ends everything that lasts. */
export function calmFleet(fleet: Fleet, world: World): void {
  world.calmSinceNs = world.loop.nowNs;
  world.network.heal();
  world.network.quality.loss = 0;
  for (const vmm of fleet.vmms) vmm.failing = 0;
  for (const each of [...fleet.controls, ...fleet.agents]) {
    each.life.stoppedUntilNs = 0;
    each.life.wallOffSeconds = 0;
  }
}
