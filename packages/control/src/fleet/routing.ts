import type { ApiKey, Pool, Replica, Tenant } from '../api/fleet.ts';
import type {
  RouteKey,
  RoutePool,
  RouteReplica,
  RouteTenant,
  RoutingChange,
  RoutingTable,
} from '../api/routing.ts';
import type { Fleet } from './fleet.ts';

/** New requests for a replica against others of its pool. */
const WEIGHT = 100;

/** What gateways see of the fleet. Rows that they may not route to are not in it. */
export function routingTable(fleet: Fleet, sequence: number): RoutingTable {
  const some = <T, R>(rows: Iterable<T>, route: (row: T) => R | null): R[] =>
    [...rows].flatMap((row) => route(row) ?? []);
  const { value: prefixKey, madeMs } = fleet.get('secret', 'prefix')!;
  return {
    sequence,
    secret: { prefixKey, madeMs },
    pools: some(fleet.rows('pool').values(), (pool) => routePool(fleet, pool)),
    replicas: some(fleet.rows('replica').values(), (replica) => routeReplica(fleet, replica)),
    tenants: some(fleet.rows('tenant').values(), routeTenant),
    keys: some(fleet.rows('key').values(), routeKey),
  };
}

/**
 * What gateways see differently once a draft is written: of each row that the draft touches, if it
 * looks another way after it.
 */
export function routingChanges(
  before: Fleet,
  after: Fleet,
  touched: readonly { readonly kind: string; readonly id: string }[],
  sequence: number,
): RoutingChange[] {
  const changes: RoutingChange[] = [];
  const compare = <T>(
    of: 'pool' | 'replica' | 'tenant' | 'key',
    name: string,
    one: T | null,
    other: T | null,
  ): void => {
    if (JSON.stringify(one) === JSON.stringify(other)) return;
    if (other === null) changes.push({ kind: 'gone', sequence, of, name });
    else changes.push({ kind: of, sequence, put: other } as unknown as RoutingChange);
  };
  // A pool's state is that of its replicas.
  const pools = new Set<string>();
  const replicas = new Set<string>();
  for (const { kind, id } of touched) {
    if (kind === 'pool') {
      pools.add(id);
      for (const { replica } of after.rows('replica').inGroup(`pool/${id}`)) replicas.add(replica);
    }
    if (kind === 'replica') {
      const row = after.get('replica', id) ?? before.get('replica', id);
      if (row !== undefined) pools.add(row.pool);
      replicas.add(id);
    }
  }
  for (const pool of pools) {
    const view = (fleet: Fleet) => seen(fleet.get('pool', pool), (row) => routePool(fleet, row));
    compare('pool', pool, view(before), view(after));
  }
  for (const replica of replicas) {
    const view = (fleet: Fleet) =>
      seen(fleet.get('replica', replica), (row) => routeReplica(fleet, row));
    compare('replica', replica, view(before), view(after));
  }
  for (const { kind, id } of touched) {
    if (kind === 'tenant') {
      const view = (fleet: Fleet) => seen(fleet.get('tenant', id), routeTenant);
      compare('tenant', id, view(before), view(after));
    }
    if (kind === 'key') {
      const view = (fleet: Fleet) => seen(fleet.get('key', id), routeKey);
      compare('key', id, view(before), view(after));
    }
  }
  return changes;
}

function seen<T, R>(row: T | undefined, view: (row: T) => R | null): R | null {
  return row === undefined ? null : view(row);
}

function routePool(fleet: Fleet, { pool, spec, wakeUntilMs }: Pool): RoutePool {
  const phases = new Set<string>();
  let coldStartSeconds = 0;
  for (const replica of fleet.rows('replica').inGroup(`pool/${pool}`)) {
    phases.add(replica.phase);
    coldStartSeconds = Math.max(coldStartSeconds, replica.coldStartSeconds);
  }
  const isComing =
    phases.has('starting') || phases.has('attesting') || phases.has('warm') || wakeUntilMs > 0;
  const idle = spec.replicas.max === 0 ? 'stopped' : 'asleep';
  const isMeant = spec.replicas.min > 0;
  return {
    pool,
    models: spec.models,
    state: phases.has('serving') ? 'serving' : isComing || isMeant ? 'waking' : idle,
    coldStartSeconds,
    tenant: spec.tenant,
  };
}

/** Only what serves on evidence, and what served and lets its streams end. */
function routeReplica(fleet: Fleet, replica: Replica): RouteReplica | null {
  const { phase, address, evidence, pool, deadlineMs } = replica;
  if (phase !== 'serving' && phase !== 'draining') return null;
  if (address === null || evidence === null) return null;
  return {
    replica: replica.replica,
    pool,
    host: replica.host,
    address,
    credential: replica.credential,
    tlsSpkiSha256: evidence.tlsSpkiSha256,
    encryptionKeys: evidence.encryptionKeys,
    receiptKey: evidence.receiptKey,
    evidence: evidence.id,
    evidenceNotAfterMs: evidence.notAfterMs,
    tenancyEpoch: replica.tenancyEpoch ?? replica.epoch,
    logIndex: replica.logIndex,
    state: phase,
    drainUntilMs: phase === 'draining' ? deadlineMs : null,
    weight: WEIGHT,
    inFlightMax: fleet.get('pool', pool)?.spec.inFlightMax ?? 1,
  };
}

function routeTenant({ tenant, spec, salt }: Tenant): RouteTenant {
  return { tenant, quota: spec.quota, pools: spec.pools, salt };
}

function routeKey({ role, digest, tenant, keyId, notAfterMs }: ApiKey): RouteKey | null {
  if (role !== 'tenant' || tenant === null) return null;
  return { digest, tenant, keyId, notAfterMs };
}
