import sqlite from 'node-sqlite3-wasm';
import { CLIENT_KINDS, Load } from './clients/clients.ts';
import { askEach } from './clients/last.ts';
import { collectReceipts } from './clients/receipts.ts';
import { calm, FAULT_NAMES, type FaultName, unleash } from './faults.ts';
import { install } from './platform/platform.ts';
import { GATEWAY_HOST, GATEWAY_PORT, GatewayProcess } from './product/gateway-process.ts';
import { modelFiles, PAGE_BYTES } from './product/model.ts';
import { SERVER_PORT, ServerProcess } from './product/server-process.ts';
import { drawSettings, KEYS, noteSettings } from './product/settings.ts';
import { threadMains } from './product/threads.ts';
import { World } from './product/world.ts';
import type { Violation } from './world/judge.ts';
import { Random } from './world/random.ts';

export interface SimulationOptions {
  readonly seed: number;
  /** That clients send; the seed says by default. */
  readonly requests?: number | undefined;
  /** The kinds of faults that happen; the seed says by default. */
  readonly faults?: readonly FaultName[] | undefined;
  readonly keepsHistory?: boolean | undefined;
}

export interface SimulationResult {
  readonly seed: number;
  readonly requests: number;
  readonly faults: readonly FaultName[];
  /** What was broken, the first first: it ends there. */
  readonly violations: readonly Violation[];
  /** SHA-256 of the history: the same for the same seed and options, on every machine. */
  readonly digest: string;
  readonly history: readonly string[] | null;
  /** What was reached, and how often. */
  readonly coverage: ReadonlyMap<string, number>;
  readonly counts: Readonly<Record<string, number>>;
  readonly virtualSeconds: number;
  /** Events of the loop. */
  readonly steps: number;
}

const REQUESTS = { least: 30, most: 120 };
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
/** All that is open must have ended so long after the last fault. */
const CALM_NS = 400e9;

let files: ReadonlyMap<string, Buffer> | undefined;

/**
 * Runs one simulation. It takes this process for itself: nothing else of it runs meanwhile. Not to
 * be called within a promise's callback, where Node would run no others: `simulate` is.
 */
function run(options: SimulationOptions): SimulationResult {
  const { seed } = options;
  let isBroken = false;
  const world = new World(seed, options.keepsHistory === true, () => {
    isBroken = true;
  });
  const { loop, network, judge } = world;
  files ??= modelFiles();
  const restore = install({
    loop,
    network,
    files: world.files,
    disks: world.disks,
    given: files,
    mainOf: threadMains(loop, {
      device: (life, device) => world.serverOf(life)?.trouble.watch(device),
      engine: (life, engine, device, model) => world.serverOf(life)?.opened(engine, device, model),
    }),
  });
  const { Database } = sqlite;
  sqlite.Database = class extends Database {
    readonly #statements: ReturnType<(typeof Database)['prototype']['prepare']>[] = [];

    constructor(...args: ConstructorParameters<typeof Database>) {
      super(...args);
      world.opened(() => {
        for (const each of this.#statements) if (!each.isFinalized) each.finalize();
        this.close();
      });
    }

    override prepare(sql: string) {
      const statement = super.prepare(sql);
      this.#statements.push(statement);
      return statement;
    }
  };
  const rejected = (error: unknown) => {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    judge.violated('orderly', `a rejection that nobody handles: ${what}`);
  };
  process.on('unhandledRejection', rejected);
  // Node's own handling must find somebody who listens.
  const seen = () => undefined;
  process.on('uncaughtException', seen);
  loop.uncaught = (error, life) => {
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
    judge.violated('orderly', `${life?.name ?? 'the simulation'} threw: ${what}`);
  };
  try {
    const chosen = options.faults ?? drawFaults(new Random(seed, 'which faults'));
    const requests =
      options.requests ?? new Random(seed, 'requests').between(REQUESTS.least, REQUESTS.most);
    const random = new Random(seed, 'swarm');
    const until = (limitNs: number, isDone: () => boolean): boolean => {
      const endNs = loop.nowNs + limitNs;
      loop.at(endNs, () => undefined, null);
      loop.run(() => isBroken || isDone() || loop.nowNs >= endNs);
      return isDone();
    };
    const settings = drawSettings(random, PAGE_BYTES);
    noteSettings(judge, settings);
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
    let sinceLook = 0;
    loop.afterStep = () => {
      sinceLook += 1;
      if (sinceLook < 16) return;
      sinceLook = 0;
      for (const server of world.servers) {
        server.engine?.check();
        server.observe();
      }
    };
    for (const server of world.servers) server.start();
    if (!until(60e9, () => world.servers.every(({ isUp }) => isUp)) && !isBroken) {
      judge.violated('live', 'a server has not started within a minute');
    }
    world.gateway?.start();
    until(10e9, () => world.gateway?.isUp !== false);
    const load = new Load(
      world,
      {
        requests,
        clients: random.between(4, 40),
        kinds: random.chance(0.3) ? ['plain'] : CLIENT_KINDS,
        keys: KEYS,
        targets: hasGateway
          ? [{ host: GATEWAY_HOST, port: GATEWAY_PORT }]
          : world.servers.map(({ host }) => ({ host, port: SERVER_PORT })),
        thinkNs: random.of([0, 1e6, 50e6, 1e9]),
        outputMax: random.of([4, 16, 48, 160]),
        promptMax: random.of([8, 40, 120]),
        hasLimits: settings.maxWaitingRequests !== undefined,
        isPeaceful: chosen.every((name) => HARMLESS.has(name)),
      },
      new Random(seed, 'load'),
    );
    unleash(world, new Random(seed, 'faults'), chosen, load.options.thinkNs);
    const audit = collectReceipts(world, load);
    until(3600e9, () => load.counts.sent >= requests);
    calm(world);
    judge.note('calm');
    if (!until(CALM_NS, () => load.isDone) && !isBroken) {
      judge.violated('live', `${load.open} requests have not ended`);
    }
    if (!until(120e9, () => world.isUp) && !isBroken) {
      judge.violated('live', 'a server has not come back');
    }
    // What ran ahead, and pages on their way to stores.
    until(5e9, () => false);
    for (const { engine } of world.servers) engine?.checkAtRest();
    if (!isBroken) askEach(world, until);
    if (!isBroken) audit.finish(until);
    return {
      seed,
      requests,
      faults: chosen,
      violations: judge.violations,
      digest: judge.digest(),
      history: judge.history,
      coverage: judge.coverage,
      counts: { ...load.counts, receipts: load.receipts.length },
      virtualSeconds: loop.nowNs / 1e9,
      steps: loop.steps,
    };
  } finally {
    world.gateway?.bury();
    for (const server of world.servers) world.bury(server.life);
    loop.afterStep = () => {};
    sqlite.Database = Database;
    restore();
    process.off('unhandledRejection', rejected);
    process.off('uncaughtException', seen);
  }
}

/** Runs one simulation, once whatever the caller still has to do is done. */
export function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { setImmediate } = globalThis;
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(run(options));
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** One seed in ten has none, and must answer everything. */
function drawFaults(random: Random): FaultName[] {
  const share = random.of([0, 0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.6, 0.6, 0.1]);
  return FAULT_NAMES.filter(() => random.chance(share));
}
