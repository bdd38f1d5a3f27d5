import { beforeEach, describe, expect, it } from 'vitest';
import { PoolSpec, type ReplicaPhase } from '../api/fleet.ts';
import { SYSTEM_CHANCE } from '../system.ts';
import { pretendedHost } from '../vmm/pretended.ts';
import { type Change, nothingHeard } from './context.ts';
import { Fleet } from './fleet.ts';
import { reconcile } from './reconcile.ts';
import { startReplica, toPhase } from './replicas.ts';

const HOST = 'host-a';
const EVIDENCE = {
  id: 'ev_1',
  notAfterMs: 600_000,
  encryptionKeys: null,
  receiptKey: null,
  tlsSpkiSha256: null,
};

let change: Change;

beforeEach(() => {
  const fleet = Fleet.of({ rows: [], claims: [] }).draft();
  change = { fleet, heard: nothingHeard(() => 1000), nowMs: 1000, chance: SYSTEM_CHANCE };
  fleet.put('policy', 'trial', {
    name: 'trial',
    spec: { policy: 'operator-asserted', maxAgeSeconds: 600 },
  });
  const quota = {
    requestsPerMinute: null,
    tokensPerMinute: null,
    inFlightMax: null,
    gpusMax: 1,
    weight: 1,
  };
  fleet.put('tenant', 'aurora', { tenant: 'aurora', spec: { quota, pools: null }, salt: 's' });
  fleet.put('host', HOST, pretendedHost(HOST));
});

const put = (generation: number, replicas = { min: 1, max: 1 }) => {
  const spec = PoolSpec.parse({
    models: ['own'],
    image: 'storyteller',
    policy: 'trial',
    tenant: 'aurora',
    replicas,
  });
  const rest = { wakeUntilMs: 0, failures: 0, notBeforeMs: 0, trouble: null };
  change.fleet.put('pool', 'own', { pool: 'own', spec, generation, ...rest });
  return change.fleet.get('pool', 'own')!;
};

describe('a pool that has changed, whose tenant may have no GPU more', () => {
  const oldOne = (phase: ReplicaPhase) => {
    const placed = { host: HOST, partition: 7, modules: [1], coldStartSeconds: 1 };
    const replica = startReplica(change, put(1), { ...placed, bridgeSecondsPerToken: 0 });
    toPhase(change, replica, phase, { evidence: phase === 'starting' ? null : EVIDENCE });
    put(2);
    reconcile(change);
    return change.fleet.get('replica', replica.replica)!;
  };

  it.each(['starting', 'attesting', 'warm'] as const)(
    'has one make way at once that is %s, and never serves',
    (phase) => {
      expect(oldOne(phase)).toMatchObject({ phase: 'stopping', reason: 'replaced' });
    },
  );

  it('has one that serves go on until another does', () => {
    expect(oldOne('serving').phase).toBe('serving');
  });
});

describe('a pool that has changed, with old replicas on several hosts', () => {
  it('has one make way that does not serve, though another host comes first', () => {
    const [spec, other] = [{ min: 2, max: 2 }, 'host-b'];
    change.fleet.put('host', other, pretendedHost(other));
    const start = (generation: number, host: string, module: number, phase: ReplicaPhase) => {
      const placed = { host, partition: 7, modules: [module], coldStartSeconds: 1 };
      const pool = put(generation, spec);
      const replica = startReplica(change, pool, { ...placed, bridgeSecondsPerToken: 0 });
      toPhase(change, replica, phase, { evidence: EVIDENCE });
      return replica.replica;
    };
    const serving = start(1, HOST, 1, 'serving');
    const warm = start(1, other, 1, 'warm');
    const now = start(2, other, 2, 'serving');
    reconcile(change);
    const phaseOf = (replica: string) => change.fleet.get('replica', replica)?.phase;
    expect([serving, warm, now].map(phaseOf)).toEqual(['serving', 'stopping', 'serving']);
  });
});
