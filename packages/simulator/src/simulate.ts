import { loadAttest } from '@bridgekeeper/server/threads';
import sqlite from 'node-sqlite3-wasm';
import { FAULT_NAMES, type FaultName } from './faults.ts';
import { FLEET_FAULT_NAMES, type FleetFaultName } from './fleet/faults.ts';
import { runFleet } from './fleet/run.ts';
import { install } from './platform/platform.ts';
import { modelFiles, PAGE_BYTES } from './product/model.ts';
import { type SealedModel, sealedModel } from './product/sealed-model.ts';
import { drawMachine, drawSettings, noteSettings } from './product/settings.ts';
import { threadMains } from './product/threads.ts';
import { World } from './product/world.ts';
import { runServers } from './run-servers.ts';
import type { Violation } from './world/judge.ts';
import { Random } from './world/random.ts';

/** Of servers alone, or of a fleet. */
export type AnyFaultName = FaultName | FleetFaultName;

export interface SimulationOptions {
  readonly seed: number;
  /** That clients send; the seed says by default. */
  readonly requests?: number | undefined;
  /** The kinds of faults that happen; the seed says by default. */
  readonly faults?: readonly AnyFaultName[] | undefined;
  readonly keepsHistory?: boolean | undefined;
  /** A fleet: control, agents and guests besides. Else servers alone. */
  readonly isFleet?: boolean | undefined;
}

export interface SimulationResult {
  readonly seed: number;
  readonly requests: number;
  readonly faults: readonly AnyFaultName[];
  readonly isFleet: boolean;
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

let files: ReadonlyMap<string, Buffer> | undefined;
let sealed: SealedModel | undefined;
let isSqliteSeeded = false;

/**
 * SQLite draws its own chance once in a process: not from the first server of the first simulation,
 * which would then be another one than the same seed later.
 */
function seedSqlite(): void {
  if (isSqliteSeeded) return;
  isSqliteSeeded = true;
  const database = new sqlite.Database(':memory:');
  database.exec('SELECT random()');
  database.close();
}

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
  const machine = drawMachine(seed, options.isFleet === true);
  world.sealed = machine.loading === null ? null : sealed!;
  network.socketBytes = machine.socketBytes;
  const restore = install({
    loop,
    network,
    files: world.files,
    disks: world.disks,
    given: files,
    mainOf: threadMains(loop, machine, {
      device: (life, device) => world.serverOf(life)?.trouble.watch(device),
      engine: (life, engine, device, model) => world.serverOf(life)?.opened(engine, device, model),
      load: (life) => world.serverOf(life)?.load() ?? (() => {}),
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
  loop.as(world.newLife('sqlite', 'sqlite'), seedSqlite);
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
    const requests =
      options.requests ?? new Random(seed, 'requests').between(REQUESTS.least, REQUESTS.most);
    const isFleet = options.isFleet === true;
    const drawn = (names: readonly AnyFaultName[]) =>
      options.faults?.filter((name) => names.includes(name)) ??
      drawFaults(new Random(seed, 'which faults'), names);
    const fleetFaults = isFleet ? (drawn(FLEET_FAULT_NAMES) as FleetFaultName[]) : [];
    const chosen = isFleet ? [] : (drawn(FAULT_NAMES) as FaultName[]);
    const random = new Random(seed, 'swarm');
    const until = (limitNs: number, isDone: () => boolean): boolean => {
      const endNs = loop.nowNs + limitNs;
      loop.at(endNs, () => undefined, null);
      loop.run(() => isBroken || isDone() || loop.nowNs >= endNs);
      return isDone();
    };
    const settings = drawSettings(random, PAGE_BYTES);
    noteSettings(judge, settings, machine);
    const result = (counts: Readonly<Record<string, number>>): SimulationResult => ({
      seed,
      requests,
      faults: isFleet ? fleetFaults : chosen,
      isFleet,
      violations: judge.violations,
      digest: judge.digest(),
      history: judge.history,
      coverage: judge.coverage,
      counts,
      virtualSeconds: loop.nowNs / 1e9,
      steps: loop.steps,
    });
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
    const isOver = () => isBroken;
    if (isFleet) {
      return result(
        runFleet({ world, requests, settings, faults: fleetFaults, until, isBroken: isOver }),
      );
    }
    return result(
      runServers({ world, requests, settings, random, faults: chosen, until, isBroken: isOver }),
    );
  } finally {
    world.gateway?.bury();
    for (const server of world.servers) world.bury(server.life);
    network.closeParsers();
    loop.afterStep = () => {};
    sqlite.Database = Database;
    restore();
    process.off('unhandledRejection', rejected);
    process.off('uncaughtException', seen);
  }
}

/** Runs one simulation, once whatever the caller still has to do is done. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { setImmediate } = globalThis;
  // Nothing is loaded meanwhile.
  await loadAttest();
  sealed ??= await sealedModel();
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
function drawFaults(random: Random, names: readonly AnyFaultName[]): AnyFaultName[] {
  const share = random.of([0, 0.2, 0.4, 0.4, 0.4, 0.4, 0.4, 0.6, 0.6, 0.1]);
  return names.filter(() => random.chance(share));
}
