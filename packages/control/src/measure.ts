import type { PoolSpec } from './api/fleet.ts';
import type { Change } from './fleet/context.ts';
import { reconcile } from './fleet/reconcile.ts';
import { Term } from './lead/term.ts';
import { openStore } from './store/open.ts';
import { SYSTEM_CHANCE } from './system.ts';
import { pretendedHost } from './vmm/pretended.ts';

export interface ControlMeasure {
  readonly folder: string;
  /** Of PostgreSQL; null: SQLite in the folder. */
  readonly database: string | null;
  readonly hosts: number;
  /** That were serving before control began. */
  readonly serving: number;
  /** That are wanted besides. */
  readonly missing: number;
  /** Pools of one replica each that are wanted then, all at once. */
  readonly placements: number;
  readonly nowMs: () => number;
  readonly nowNs: () => number;
}

export interface ControlTimes {
  /** Opening, leading, reading everything. */
  readonly loadSeconds: number;
  /** The first round: what is missing is placed and written. */
  readonly firstRoundSeconds: number;
  /** A round in which nothing is to be done. */
  readonly idleRoundSeconds: number;
  readonly placementsPerSecond: number;
  /** What the process itself used of a processor until the first round was written. */
  readonly coldCpuSeconds: number;
  readonly placementCpuSeconds: number;
  /** Resident memory of the process, all that it does included. */
  readonly residentBytes: number;
}

const LEASE_MS = 3_600_000;
const ROWS_PER_BATCH = 2000;

/** What a fleet of that size takes of the control that leads it, with its real store. */
export async function measureControl(options: ControlMeasure): Promise<ControlTimes> {
  const { missing, nowNs } = options;
  await seed(options);
  const startedNs = nowNs();
  const startedCpu = process.cpuUsage();
  const store = await openStore(options.folder, options.database);
  try {
    const term = await termOver(store, 'measured', options);
    const loadedNs = nowNs();
    await change(term, reconcile);
    const firstNs = nowNs();
    const coldCpuSeconds = cpuSecondsSince(startedCpu);
    demandReplicas(term, options.serving + missing);
    await change(term, reconcile);
    const idleNs = nowNs();
    const placingCpu = process.cpuUsage();
    const names = Array.from({ length: options.placements }, (_, index) => `later-${index}`);
    const puts = names.map((pool) => change(term, (each) => putPool(each, pool, 1)));
    await Promise.all(puts);
    await change(term, reconcile);
    const placedNs = nowNs();
    const placementCpuSeconds = cpuSecondsSince(placingCpu);
    demandReplicas(term, options.serving + missing + options.placements);
    return {
      loadSeconds: (loadedNs - startedNs) / 1e9,
      firstRoundSeconds: (firstNs - loadedNs) / 1e9,
      idleRoundSeconds: (idleNs - firstNs) / 1e9,
      placementsPerSecond: options.placements / ((placedNs - idleNs) / 1e9),
      coldCpuSeconds,
      placementCpuSeconds,
      residentBytes: process.memoryUsage.rss(),
    };
  } finally {
    await store.close();
  }
}

function cpuSecondsSince(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1e6;
}

function change(term: Term, make: (change: Change) => void): Promise<void> {
  return term.change({ actor: 'measure', operation: null, make });
}

function demandReplicas(term: Term, count: number): void {
  const there = [...term.fleet.rows('replica').values()].length;
  if (there !== count) throw new Error(`there are ${there} replicas, there should be ${count}`);
}

async function termOver(
  store: Awaited<ReturnType<typeof openStore>>,
  holder: string,
  { nowMs }: ControlMeasure,
): Promise<Term> {
  const lease = await store.acquire(holder, nowMs(), LEASE_MS);
  if (lease === null) throw new Error('another control leads in this store');
  return new Term({
    store,
    lease,
    contents: await store.load(),
    chance: SYSTEM_CHANCE,
    nowMs,
    onCommit: () => undefined,
    onEnd: () => undefined,
  });
}

/** A fleet as an earlier control left it. */
async function seed(options: ControlMeasure): Promise<void> {
  const { folder, database, hosts, serving, missing, nowMs } = options;
  const store = await openStore(folder, database);
  const term = await termOver(store, 'seed', options);
  await change(term, ({ fleet, chance }) => {
    fleet.put('secret', 'prefix', { value: chance.secret(), madeMs: nowMs() });
    const spec = { policy: 'operator-asserted', maxAgeSeconds: LEASE_MS / 1000 };
    fleet.put('policy', 'trial', { name: 'trial', spec });
  });
  for (let first = 0; first < hosts; first += ROWS_PER_BATCH) {
    await change(term, ({ fleet }) => {
      for (let index = first; index < Math.min(hosts, first + ROWS_PER_BATCH); index += 1) {
        const host = `host-${index}`;
        fleet.put('host', host, pretendedHost(host, nowMs()));
      }
    });
  }
  await change(term, (each) => putPool(each, 'story', serving));
  await change(term, reconcile);
  await change(term, (each) => {
    const notAfterMs = nowMs() + LEASE_MS;
    const keys = { encryptionKeys: null, receiptKey: null, tlsSpkiSha256: null };
    for (const { replica } of [...each.fleet.rows('replica').values()]) {
      const evidence = { id: each.chance.id('ev', nowMs()), notAfterMs, ...keys };
      const address = 'http://127.0.0.1:8000';
      each.fleet.patch('replica', replica, {
        phase: 'serving',
        deadlineMs: null,
        address,
        evidence,
      });
    }
    putPool(each, 'story', serving + missing);
  });
  await store.release(term.lease);
  await store.close();
}

function putPool({ fleet }: Change, pool: string, replicas: number): void {
  const spec: PoolSpec = {
    models: [pool],
    image: 'storyteller',
    weightBytes: 0,
    gpus: 1,
    platform: null,
    driverVersion: null,
    grades: ['host'],
    evidenceMaxAgeSeconds: null,
    policy: 'trial',
    tenant: null,
    tenantNonce: null,
    keyRelease: 'none',
    replicas: { min: replicas, max: replicas },
    warm: 0,
    inFlightMax: 8,
    targetLoad: 0.7,
    idleSeconds: 60,
    drainSeconds: 5,
    startSeconds: 3600,
    tokensExpected: 1e6,
  };
  const row = { pool, spec, generation: 1, wakeUntilMs: 0, failures: 0, notBeforeMs: 0 };
  fleet.put('pool', pool, { ...row, trouble: null });
}
