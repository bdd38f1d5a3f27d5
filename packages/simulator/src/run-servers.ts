import { CLIENT_KINDS, Load } from './clients/clients.ts';
import { askEach } from './clients/last.ts';
import { collectReceipts } from './clients/receipts.ts';
import { calm, type FaultName, unleash } from './faults.ts';
import { troubleFirstLoads } from './load-faults.ts';
import { GATEWAY_HOST, GATEWAY_PORT, GatewayProcess } from './product/gateway-process.ts';
import { SERVER_PORT, ServerProcess } from './product/server-process.ts';
import { KEYS, type ServerSettings } from './product/settings.ts';
import type { World } from './product/world.ts';
import { Random } from './world/random.ts';

/** What costs nobody an answer. */
const HARMLESS: ReadonlySet<FaultName> = new Set([
  'wall',
  'wall-stands',
  'memory-short',
  'flip',
  'key-storm',
  'law-changes',
  'split',
  'loss',
  'disk-full',
  'disk-errors',
]);
const CROWDED_SHARE = 0.3;
/** All that is open must have ended so long after the last fault. */
const CALM_NS = 400e9;

export interface ServersRun {
  readonly world: World;
  readonly requests: number;
  readonly settings: ServerSettings;
  readonly random: Random;
  readonly faults: readonly FaultName[];
  readonly until: (limitNs: number, isDone: () => boolean) => boolean;
  /** Whether a promise was broken: then it is over. */
  readonly isBroken: () => boolean;
}

/** Clients before servers, or before a gateway of them. Returns what became of their requests. */
export function runServers(run: ServersRun): Readonly<Record<string, number>> {
  const { world, requests, settings, random, faults, until, isBroken } = run;
  const { judge, seed } = world;
  const hasGateway = random.chance(0.4);
  const count = hasGateway ? random.between(2, 3) : random.between(1, 2);
  for (let index = 0; index < count; index++) {
    world.servers.push(
      new ServerProcess(
        world,
        `s${index}`,
        settings.kvDiskSize === undefined
          ? settings
          : { ...settings, kvDiskPath: `/sim/s${index}` },
      ),
    );
  }
  if (hasGateway) world.gateway = new GatewayProcess(world);
  troubleFirstLoads(world, new Random(seed, 'first loads'), faults);
  for (const server of world.servers) server.start();
  if (!until(60e9, () => world.servers.every(({ isUp }) => isUp)) && !isBroken()) {
    judge.violated('live', 'a server has not started within a minute');
  }
  world.gateway?.start();
  until(10e9, () => world.gateway?.isUp !== false);
  // What only happens where rows and pages are short needs many who want much at once.
  const isCrowded = random.chance(CROWDED_SHARE);
  const load = new Load(
    world,
    {
      requests,
      clients: random.between(isCrowded ? 20 : 4, 40),
      kinds: random.chance(0.3) ? ['plain'] : CLIENT_KINDS,
      keys: KEYS,
      targets: hasGateway
        ? [{ host: GATEWAY_HOST, port: GATEWAY_PORT }]
        : world.servers.map(({ host }) => ({ host, port: SERVER_PORT })),
      thinkNs: random.of(isCrowded ? [0, 1e6] : [0, 1e6, 50e6, 1e9]),
      outputMax: random.of(isCrowded ? [48, 160] : [4, 16, 48, 160]),
      // As of people: a few long ones among many that are short.
      longShare: isCrowded ? 1 : random.of([1, 0.2, 0.2]),
      promptMax: random.of([8, 40, 120]),
      hasLimits: settings.maxWaitingRequests !== undefined,
      isPeaceful: faults.every((name) => HARMLESS.has(name)),
      stallNs: settings.stallTimeout! * 1e9,
      hasWholePaths: !faults.includes('reset') && !faults.includes('cut'),
      hasReturns: settings.kvTierPolicy !== undefined,
    },
    new Random(seed, 'load'),
  );
  unleash(world, new Random(seed, 'faults'), faults, load.options.thinkNs);
  const audit = collectReceipts(world, load, random.chance(0.5));
  until(3600e9, () => load.counts.sent >= requests);
  calm(world);
  judge.note('calm');
  if (!until(CALM_NS, () => load.isDone) && !isBroken()) {
    judge.violated('live', `${load.open} requests have not ended`);
  }
  if (!until(120e9, () => world.isUp) && !isBroken()) {
    judge.violated('live', 'a server has not come back');
  }
  // What ran ahead, and pages on their way to stores.
  until(5e9, () => false);
  for (const { engine } of world.servers) engine?.checkAtRest();
  if (!isBroken()) askEach(world, until);
  if (!isBroken()) audit.finish(until);
  return { ...load.counts, receipts: load.receipts.length };
}
