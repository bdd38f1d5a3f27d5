import { Load } from '../clients/clients.ts';
import { GATEWAY_HOST, GATEWAY_PORT } from '../product/gateway-process.ts';
import type { ServerSettings } from '../product/settings.ts';
import type { World } from '../product/world.ts';
import { Random } from '../world/random.ts';
import { calmFleet, type FleetFaultName, unleashOn } from './faults.ts';
import { drawShape, Fleet } from './fleet.ts';
import { Operations } from './operations.ts';

export interface FleetRun {
  readonly world: World;
  readonly requests: number;
  readonly settings: ServerSettings;
  readonly faults: readonly FleetFaultName[];
  readonly until: (limitNs: number, isDone: () => boolean) => boolean;
  /** Whether a promise was broken: then it is over. */
  readonly isBroken: () => boolean;
}

/** How long faults happen at least. */
const STORM_NS = { least: 20e9, most: 150e9 };
/** What an operator had said before is answered by then. */
const SETTLE_NS = 20e9;
/** All that is open, and all that is wanted, must have come about so long after the last fault. */
const CALM_NS = 600e9;

/** Clients before a gateway whose replicas are control's. Returns what became of their requests. */
export function runFleet(run: FleetRun): Readonly<Record<string, number>> {
  const { world, requests, until, isBroken } = run;
  const { judge, loop } = world;
  const random = new Random(world.seed, 'fleet');
  const shape = drawShape(random);
  judge.note(`fleet ${JSON.stringify(shape)}`);
  const fleet = new Fleet(world, guestSettings(run.settings), shape, random);
  try {
    if (!fleet.found(until)) {
      if (!isBroken()) judge.violated('live', `the fleet does not come up: ${fleet.judge.state}`);
      return {};
    }
    judge.note('the fleet is up');
    judge.reached('fleet up');
    const stormNs = random.between(STORM_NS.least, STORM_NS.most);
    const clients = random.between(4, 20);
    const load = new Load(
      world,
      {
        requests,
        clients,
        kinds: ['plain', 'slow', 'vanishing'],
        keys: fleet.keys,
        targets: [{ host: GATEWAY_HOST, port: GATEWAY_PORT }],
        // As long as things go wrong there are requests.
        thinkNs: (2 * stormNs * clients) / requests,
        outputMax: random.of([4, 16, 60]),
        longShare: 1,
        promptMax: random.of([8, 40]),
        hasLimits: false,
        isPeaceful: false,
        stallNs: 60e9,
        hasWholePaths: false,
        hasReturns: false,
      },
      new Random(world.seed, 'load'),
    );
    const has = (...names: FleetFaultName[]) => names.some((name) => run.faults.includes(name));
    fleet.judge.hasTrueClocks = !has('control-wall');
    fleet.judge.hasWholePaths = !has(
      'fleet-cut',
      'fleet-loss',
      'fleet-reset',
      'fleet-gateway-kill',
    );
    fleet.judge.hasSteadyControl = !has(
      'control-kill',
      'control-power',
      'control-pause',
      'database-restart',
    );
    unleashOn(fleet, world, new Random(world.seed, 'faults'), run.faults);
    const operations = new Operations(world, fleet, new Random(world.seed, 'operations'));
    operations.begin();
    const endNs = loop.nowNs + stormNs;
    until(3600e9, () => load.counts.sent >= requests && loop.nowNs >= endNs);
    calmFleet(fleet, world);
    judge.note('calm');
    let isSettled = false;
    fleet.operator.life.at(loop.nowNs + SETTLE_NS, () => {
      void operations.settle().then(() => {
        isSettled = true;
      });
    });
    if (!until(CALM_NS, () => isSettled) && !isBroken()) {
      const { state } = fleet.judge;
      judge.violated('live', `control does not take what an operator says, and there is ${state}`);
    }
    if (!until(CALM_NS, () => load.isDone) && !isBroken()) {
      judge.violated('live', `${load.open} requests have not ended`);
    }
    if (!until(CALM_NS, () => fleet.judge.isAsWanted) && !isBroken()) {
      judge.violated('live', `what is wanted has not come about: ${fleet.judge.state}`);
    }
    // Evidence gets old meanwhile, and is asked for anew.
    until(2e9 * shape.maxAgeSeconds, () => false);
    if (!fleet.judge.isAsWanted && !isBroken()) {
      judge.violated('live', `what was there is not kept up: ${fleet.judge.state}`);
    }
    if (!isBroken()) for (const fabric of fleet.fabrics) fabric.lookAtEnd();
    return { ...load.counts };
  } finally {
    fleet.bury();
  }
}

/** What control tells guests is not drawn. */
function guestSettings({
  apiKey: _,
  gatewayKey: __,
  kvDiskSize: ___,
  ...rest
}: ServerSettings): ServerSettings {
  return rest;
}
