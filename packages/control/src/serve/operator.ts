import { createHash } from 'node:crypto';
import type { z } from '@hono/zod-openapi';
import type { Admission } from '../admission.ts';
import type { ApiKey, HostFacts, Pool, PoolSpec, Replica } from '../api/fleet.ts';
import type { OPERATOR_CALLS, PlanAnswer, PlanRequest } from '../api/operator-calls.ts';
import { ControlError } from '../errors.ts';
import type { Chance, Change } from '../fleet/context.ts';
import type { Fleet, Kind } from '../fleet/fleet.ts';
import { Offers } from '../fleet/placement.ts';
import { overQuota } from '../fleet/reconcile.ts';
import { command, drain, forget } from '../fleet/replicas.ts';
import type { Row } from '../fleet/rows.ts';
import type { Store } from '../store/store.ts';
import type { CallerId, Handlers } from './handlers.ts';
import type { JoinTokens } from './join.ts';

/** One replica under a load, on a host with that bridge; null: it was not measured. */
export interface LoadQuestion {
  readonly load: NonNullable<z.output<typeof PlanRequest>['load']>;
  readonly gpus: number;
  readonly bridge: HostFacts['bridge'];
}

/**
 * What the planner says. Throws ControlError: 'bad-request', it does not know the model or the GPU;
 * 'does-not-fit'; 'busy'.
 */
export type Predict = (question: LoadQuestion) => Promise<Predicted>;

export type Predicted = NonNullable<z.output<typeof PlanAnswer>['predicted']>;

export interface OperatorContext {
  readonly store: Store;
  readonly admission: Admission;
  readonly tokens: JoinTokens;
  readonly chance: Chance;
  readonly nowMs: () => number;
  /** Null: this control was started without the planner. */
  readonly predict: Predict | null;
}

/** How long a price holds. */
const PLAN_MS = 300_000;
const PLANS_MAX = 1000;

type OperatorHandlers = Handlers<typeof OPERATOR_CALLS>;

export function operatorHandlers(context: OperatorContext): OperatorHandlers {
  return {
    ...hostHandlers(context),
    ...poolHandlers(context),
    ...replicaHandlers(context),
    ...accountHandlers(context),
    ...recordHandlers(context),
  };
}

type HostCalls = 'status' | 'listHosts' | 'getHost' | 'putHost' | 'deleteHost' | 'makeJoinToken';
type BoardCalls = 'listGpus' | 'listPartitions' | 'listTenancies';

function hostHandlers({
  tokens,
  nowMs,
}: OperatorContext): Pick<OperatorHandlers, HostCalls | BoardCalls> {
  return {
    status: {
      read: ({ fleet, lease, sequence }) => {
        const replicas: Record<string, number> = {};
        for (const { phase } of fleet.rows('replica').values()) {
          replicas[phase] = (replicas[phase] ?? 0) + 1;
        }
        const hosts = [...fleet.rows('host').values()];
        return {
          epoch: lease.epoch,
          sequence,
          hosts: hosts.length,
          gpus: hosts.reduce((sum, { facts }) => sum + (facts?.gpus.length ?? 0), 0),
          pools: [...fleet.rows('pool').values()].length,
          replicas,
        };
      },
    },
    listHosts: { read: ({ fleet }, { query }) => pageOf(fleet, 'host', query) },
    getHost: { read: ({ fleet }, { params }) => rowOf(fleet, 'host', params.host) },
    putHost: {
      write: (change, { params, body, caller, ifMatch }) => {
        const { fleet } = change;
        const host = rowOf(fleet, 'host', params.host);
        demandVersion('host', host, ifMatch);
        if (host.state === 'joined' && body.state === 'ready') {
          throw new ControlError('conflict', 'its agent has not said yet what it is');
        }
        const cleared = new Set(body.clear ?? []);
        const quarantined = host.quarantined.filter(({ module }) => !cleared.has(module));
        noted(change, caller, `host ${body.state}`, params.host, clearedText(body.clear));
        return fleet.patch('host', params.host, { state: body.state, quarantined });
      },
    },
    deleteHost: {
      write: (change, { params, caller, ifMatch }) => {
        const { fleet } = change;
        demandVersion('host', rowOf(fleet, 'host', params.host), ifMatch);
        for (const replica of [...fleet.rows('replica').inGroup(`host/${params.host}`)]) {
          forget(change, replica);
        }
        fleet.remove('host', params.host);
        noted(change, caller, 'host forgotten', params.host);
        return {};
      },
    },
    makeJoinToken: {
      run: async (term, { body, caller }) => {
        await term.change({
          actor: caller.name,
          operation: null,
          make: (change) => noted(change, caller, 'join token', body.host),
        });
        return tokens.make(body.host, nowMs());
      },
    },
    listGpus: {
      read: ({ fleet }, { query }) => {
        const gpus = [...fleet.rows('host').values()].flatMap(({ host, facts }) =>
          (facts?.gpus ?? []).map((gpu) => {
            return { ...gpu, host, replica: fleet.claimOf(host, gpu.module) };
          }),
        );
        return paged(
          gpus,
          ({ host, module }) => `${host}/${String(module).padStart(2, '0')}`,
          query,
        );
      },
    },
    listPartitions: {
      read: ({ fleet }, { query }) => {
        const all = [...fleet.rows('host').values()].flatMap(({ host, facts }) =>
          (facts?.partitions ?? []).map(({ id, modules }) => {
            const replicas = modules.flatMap((module) => fleet.claimOf(host, module) ?? []);
            return { host, id, modules, replicas: [...new Set(replicas)] };
          }),
        );
        return paged(all, ({ host, id }) => `${host}/${String(id).padStart(6, '0')}`, query);
      },
    },
    listTenancies: {
      read: ({ fleet }, { query, caller }) => {
        const all = [...fleet.rows('replica').values()]
          .filter((replica) => maySee(caller, replica.tenant))
          .map(({ replica, tenant, host, partition, modules, epoch, phase, logIndex }) => {
            return { replica, tenant, host, partition, modules, epoch, phase, logIndex };
          });
        return paged(all, ({ replica }) => replica, query);
      },
    },
  };
}

type PoolCalls = 'listPools' | 'getPool' | 'putPool' | 'deletePool' | 'plan' | 'commitPlan';

function poolHandlers(context: OperatorContext): Pick<OperatorHandlers, PoolCalls> {
  const { nowMs } = context;
  const plans = new Map<string, PricedPlan>();
  /** Callers whose load is being planned. */
  const planning = new Set<string>();
  return {
    listPools: {
      read: ({ fleet }, { query, caller }) => {
        const own = [...fleet.rows('pool').values()].filter((p) => maySee(caller, p.spec.tenant));
        return paged(own, ({ pool }) => pool, query);
      },
    },
    getPool: { read: ({ fleet }, { params, caller }) => poolOf(fleet, params.pool, caller) },
    putPool: {
      write: (change, { params, body, caller, ifMatch }) => {
        const before = change.fleet.get('pool', params.pool);
        if (before !== undefined) demandOwn(before, caller);
        demandVersion('pool', before, ifMatch);
        return putPool(change, params.pool, body, caller);
      },
    },
    deletePool: {
      write: (change, { params, caller, ifMatch }) => {
        demandVersion('pool', poolOf(change.fleet, params.pool, caller), ifMatch);
        const { fleet } = change;
        for (const replica of [...fleet.rows('replica').inGroup(`pool/${params.pool}`)]) {
          drain(change, replica, 'its pool is no more');
        }
        fleet.remove('pool', params.pool);
        noted(change, caller, 'pool removed', params.pool);
        return {};
      },
    },
    plan: {
      run: async ({ fleet, heard }, { body, caller }) => {
        const change = { fleet: fleet.draft(), heard, nowMs: nowMs(), chance: context.chance };
        const { spec, pool } = body;
        checkSpec(change.fleet, pool, spec, caller);
        const answer = price(change, pool, spec);
        const predicted = await predict(context, planning, caller, {
          load: body.load,
          gpus: spec.gpus,
          hosts: answer.placements.map(({ host }) => host),
          fleet,
        });
        const plan = context.chance.id('pl', nowMs());
        const expiresMs = nowMs() + PLAN_MS;
        for (const [id, old] of plans) {
          if (old.expiresMs <= nowMs() || plans.size >= PLANS_MAX) plans.delete(id);
        }
        plans.set(plan, { expiresMs, pool, spec, of: caller });
        return { plan, expiresMs, pool, ...answer, predicted };
      },
    },
    commitPlan: {
      write: (change, { params, caller }) => {
        const plan = plans.get(params.plan);
        if (plan === undefined || plan.expiresMs <= change.nowMs || plan.of.name !== caller.name) {
          throw new ControlError('plan-expired', 'there is no such plan any more: plan again');
        }
        const { pool, spec } = plan;
        const before = change.fleet.get('pool', pool);
        if (before !== undefined) demandOwn(before, caller);
        // On a draft of its own: its places are taken by the next round, not here.
        const draft = { ...change, fleet: change.fleet.draft() };
        const { trouble } = price(draft, pool, spec);
        if (trouble !== null) {
          const { cause, nearest } = trouble;
          throw new ControlError('does-not-fit', `it fits no longer: ${cause}`, { nearest });
        }
        return putPool(change, pool, spec, caller);
      },
    },
  };
}

interface Asked {
  readonly load: LoadQuestion['load'] | null;
  readonly gpus: number;
  /** Where it would go. */
  readonly hosts: readonly string[];
  readonly fleet: Fleet;
}

/** By the host whose bridge costs most, of those where it would go; one at a time for a caller. */
async function predict(
  context: OperatorContext,
  planning: Set<string>,
  { name }: CallerId,
  { load, gpus, hosts, fleet }: Asked,
) {
  if (load === null || context.predict === null || hosts.length === 0) return null;
  if (planning.has(name)) throw new ControlError('busy', 'your last load is still being planned');
  const bridges = hosts.map((host) => fleet.get('host', host)?.facts?.bridge ?? null);
  const bridge = bridges.reduce(
    (worst, each) => ((each?.tollNs ?? -1) > (worst?.tollNs ?? -1) ? each : worst),
    null,
  );
  planning.add(name);
  try {
    return await context.predict({ load, gpus, bridge });
  } finally {
    planning.delete(name);
  }
}

/** What was priced, for whom it can be had, and until when. */
interface PricedPlan {
  readonly expiresMs: number;
  readonly pool: string;
  readonly spec: PoolSpec;
  readonly of: CallerId;
}

type ReplicaCalls = 'listReplicas' | 'getReplica' | 'drainReplica' | 'giveKey' | 'getEvidence';

function replicaHandlers({ store }: OperatorContext): Pick<OperatorHandlers, ReplicaCalls> {
  return {
    listReplicas: {
      read: ({ fleet }, { query, caller }) => {
        const own = [...fleet.rows('replica').values()].filter((r) => maySee(caller, r.tenant));
        return paged(own.map(viewOf), ({ replica }) => replica, query);
      },
    },
    getReplica: {
      read: ({ fleet }, { params, caller }) => viewOf(replicaOf(fleet, params.replica, caller)),
    },
    drainReplica: {
      write: (change, { params, caller }) => {
        const replica = replicaOf(change.fleet, params.replica, caller);
        drain(change, replica, `${caller.name} drains it`);
        noted(change, caller, 'replica drained', params.replica);
        return viewOf(change.fleet.get('replica', params.replica)!);
      },
    },
    giveKey: {
      write: (change, { params, body, caller }) => {
        const { fleet } = change;
        const replica = replicaOf(fleet, params.replica, caller);
        const { evidence } = replica;
        if (evidence === null || evidence.id !== body.evidence) {
          const now = evidence === null ? 'none' : evidence.id;
          const message = `the replica’s evidence is ${now}: verify that and seal to its key`;
          throw new ControlError('conflict', message);
        }
        if (change.nowMs >= evidence.notAfterMs) {
          throw new ControlError('conflict', 'its evidence is too old: wait for newer');
        }
        const { phase, reason } = replica;
        if (phase !== 'warm' && phase !== 'serving') {
          throw new ControlError('conflict', `it is ${phase} and gets no key: ${reason}`);
        }
        const out = fleet.get('host', replica.host)?.quarantined ?? [];
        const doubted = out.find(({ module }) => replica.modules.includes(module));
        if (doubted !== undefined) {
          throw new ControlError('conflict', `its GPUs are in quarantine: ${doubted.reason}`);
        }
        fleet.patch('replica', params.replica, { sealedKey: body.sealedKey });
        command(change, replica.host);
        noted(change, caller, 'key given', params.replica, `under ${body.evidence}`);
        return viewOf(fleet.get('replica', params.replica)!);
      },
    },
    getEvidence: {
      read: async ({ fleet }, { params, caller }) => {
        const row = rowOf(fleet, 'evidence', params.evidence);
        replicaOf(fleet, row.replica, caller);
        return { ...row, report: (await store.blob(params.evidence)) ?? '' };
      },
    },
  };
}

type TenantCalls = 'listTenants' | 'putTenant' | 'deleteTenant';
type PolicyCalls = 'listPolicies' | 'putPolicy' | 'deletePolicy';
type KeyCalls = 'listKeys' | 'makeKey' | 'deleteKey';

function accountHandlers({
  admission,
}: OperatorContext): Pick<OperatorHandlers, TenantCalls | PolicyCalls | KeyCalls> {
  return {
    listTenants: {
      read: ({ fleet }, { query }) => {
        const { rows, next } = pageOf(fleet, 'tenant', query);
        return { rows: rows.map(withoutSalt), next };
      },
    },
    putTenant: {
      write: (change, { params, body, caller, ifMatch }) => {
        const { fleet, chance } = change;
        const before = fleet.get('tenant', params.tenant);
        demandVersion('tenant', before, ifMatch);
        const salt = before?.salt ?? chance.secret();
        fleet.put('tenant', params.tenant, { tenant: params.tenant, spec: body, salt });
        noted(change, caller, 'tenant put', params.tenant);
        return withoutSalt(fleet.get('tenant', params.tenant)!);
      },
    },
    deleteTenant: {
      write: (change, { params, caller, ifMatch }) => {
        const { fleet } = change;
        demandVersion('tenant', rowOf(fleet, 'tenant', params.tenant), ifMatch);
        const own = [...fleet.rows('pool').values()].find((p) => p.spec.tenant === params.tenant);
        if (own !== undefined) {
          throw new ControlError('conflict', `pool ${own.pool} is its own: remove that first`);
        }
        for (const key of [...fleet.rows('key').values()]) {
          if (key.tenant === params.tenant) fleet.remove('key', key.digest);
        }
        fleet.remove('tenant', params.tenant);
        noted(change, caller, 'tenant removed', params.tenant);
        return {};
      },
    },
    listPolicies: { read: ({ fleet }, { query }) => pageOf(fleet, 'policy', query) },
    putPolicy: {
      write: (change, { params, body, caller, ifMatch }) => {
        admission.checkPolicy(body.policy);
        demandVersion('policy', change.fleet.get('policy', params.name), ifMatch);
        change.fleet.put('policy', params.name, { name: params.name, spec: body });
        noted(change, caller, 'policy put', params.name);
        return change.fleet.get('policy', params.name)!;
      },
    },
    deletePolicy: {
      write: (change, { params, caller, ifMatch }) => {
        const { fleet } = change;
        demandVersion('policy', rowOf(fleet, 'policy', params.name), ifMatch);
        const user = [...fleet.rows('pool').values()].find((p) => p.spec.policy === params.name);
        if (user !== undefined) throw new ControlError('conflict', `pool ${user.pool} names it`);
        fleet.remove('policy', params.name);
        noted(change, caller, 'policy removed', params.name);
        return {};
      },
    },
    listKeys: { read: ({ fleet }, { query }) => pageOf(fleet, 'key', query) },
    makeKey: {
      // No operation that could be asked for again: what it answers is not kept.
      run: (term, { body, caller }) => {
        const make = (change: Change) => {
          const isTenants = body.role === 'tenant';
          if (isTenants !== (body.tenant !== null)) {
            const message = 'tenant: give it for the role tenant, and only then';
            throw new ControlError('bad-request', message);
          }
          if (body.tenant !== null) rowOf(change.fleet, 'tenant', body.tenant);
          const made = makeKey(change, body);
          noted(change, caller, `${body.role} key made`, made.row.keyId, body.label);
          return made;
        };
        return term.change({ actor: caller.name, operation: null, make });
      },
    },
    deleteKey: {
      write: (change, { params, caller }) => {
        const key = rowOf(change.fleet, 'key', params.digest);
        change.fleet.remove('key', params.digest);
        noted(change, caller, 'key removed', key.keyId);
        return {};
      },
    },
  };
}

function recordHandlers({
  store,
}: OperatorContext): Pick<OperatorHandlers, 'events' | 'audit' | 'operation'> {
  return {
    events: null,
    audit: {
      read: async (_, { query }) => ({ rows: [...(await store.audit(query.after, query.limit))] }),
    },
    operation: {
      read: async (_, { params, caller }) => {
        const done = await store.operation(`${caller.name}/${params.key}`);
        if (done === null) throw new ControlError('not-found', 'no operation has this key');
        return { key: params.key, atMs: done.atMs, result: JSON.parse(done.result) };
      },
    },
  };
}

/** A new key, of which only the digest is kept. */
export function makeKey(
  { fleet, chance, nowMs }: Change,
  spec: { role: ApiKey['role']; tenant: string | null; label: string } & {
    notAfterMs: number | null;
  },
) {
  const key = `bk-${spec.role}-${chance.secret()}`;
  const digest = createHash('sha256').update(key).digest('hex');
  const keyId = chance.id('key', nowMs);
  fleet.put('key', digest, { keyId, digest, madeMs: nowMs, ...spec });
  return { key, row: fleet.get('key', digest)! };
}

function putPool(change: Change, pool: string, spec: PoolSpec, caller: CallerId): Pool {
  const { fleet } = change;
  checkSpec(fleet, pool, spec, caller);
  const before = fleet.get('pool', pool);
  const isOther = before !== undefined && needsOthers(before.spec, spec);
  fleet.put('pool', pool, {
    pool,
    spec,
    generation: (before?.generation ?? 1) + (isOther ? 1 : 0),
    wakeUntilMs: before?.wakeUntilMs ?? 0,
    failures: 0,
    notBeforeMs: 0,
    trouble: before?.trouble ?? null,
  });
  noted(change, caller, 'pool put', pool);
  return fleet.get('pool', pool)!;
}

/** Whether replicas of before are not what is wanted any more. */
function needsOthers(before: PoolSpec, now: PoolSpec): boolean {
  const replica = ({ image, models, gpus, platform, driverVersion, policy, ...rest }: PoolSpec) => {
    const { tenant, tenantNonce, keyRelease, inFlightMax } = rest;
    const others = { tenant, tenantNonce, keyRelease, inFlightMax };
    return JSON.stringify({ image, models, gpus, platform, driverVersion, policy, ...others });
  };
  return replica(before) !== replica(now);
}

/** Throws ControlError: what a pool names is not there, is another's, or may not be had. */
function checkSpec(fleet: Fleet, pool: string, spec: PoolSpec, caller: CallerId): void {
  if (caller.role === 'tenant' && spec.tenant !== caller.tenant) {
    throw new ControlError('forbidden', `tenant: a tenant’s pools are its own: ${caller.tenant}`);
  }
  if (fleet.get('policy', spec.policy) === undefined) {
    throw new ControlError('bad-request', `there is no policy ${spec.policy}: put it first`);
  }
  if (spec.tenant !== null && fleet.get('tenant', spec.tenant) === undefined) {
    throw new ControlError('bad-request', `there is no tenant ${spec.tenant}: put it first`);
  }
  for (const other of fleet.rows('pool').values()) {
    const model = other.spec.models.find((each) => spec.models.includes(each));
    if (other.pool !== pool && model !== undefined) {
      // The other pool may be somebody's whose name is not to be told.
      throw new ControlError('conflict', `another pool serves a model called ${model}`);
    }
  }
  const limit = spec.tenant && fleet.get('tenant', spec.tenant)!.spec.quota.gpusMax;
  if (limit !== null && spec.gpus * (spec.replicas.min + spec.warm) > Number(limit)) {
    const needs = spec.gpus * (spec.replicas.min + spec.warm);
    throw new ControlError(
      'over-quota',
      `it needs ${needs} GPUs, ${spec.tenant} may have ${limit}`,
    );
  }
}

/** Places what a pool needs at least, on a draft that is thrown away. */
function price(change: Change, pool: string, spec: PoolSpec) {
  const { fleet } = change;
  const held = [...fleet.rows('replica').inGroup(`pool/${pool}`)].length;
  const offers = new Offers(fleet, change.nowMs);
  const placements = [];
  let trouble = null;
  let claimed = 0;
  const count = Math.max(1, spec.replicas.min + spec.warm) - held;
  for (let index = 0; index < count; index += 1) {
    trouble = overQuota(change, spec, claimed) ?? null;
    if (trouble !== null) break;
    const placed = offers.place(spec);
    if ('cause' in placed) {
      trouble = placed;
      break;
    }
    claimed += spec.gpus;
    placements.push({ ...placed, modules: [...placed.modules] });
  }
  return {
    placements,
    trouble,
    coldStartSeconds: Math.max(0, ...placements.map((placed) => placed.coldStartSeconds)),
    bridgeSecondsPerToken: Math.max(0, ...placements.map((each) => each.bridgeSecondsPerToken)),
  };
}

function viewOf({ credential: _, sealedKey: __, ...view }: Replica) {
  return view;
}

function withoutSalt<T extends { readonly salt: string }>({ salt: _, ...rest }: T) {
  return rest;
}

function maySee({ role, tenant }: CallerId, owner: string | null): boolean {
  return role !== 'tenant' || owner === tenant;
}

function rowOf<K extends Kind>(fleet: Fleet, kind: K, id: string) {
  const row = fleet.get(kind, id);
  if (row === undefined) throw new ControlError('not-found', `there is no ${kind} ${id}`);
  return row;
}

/** What is another tenant's is not there. */
function poolOf(fleet: Fleet, pool: string, caller: CallerId): Pool {
  const row = rowOf(fleet, 'pool', pool);
  if (maySee(caller, row.spec.tenant)) return row;
  throw new ControlError('not-found', `there is no pool ${pool}`);
}

/** A name that is another's can be seen to be taken, as any name that two cannot have. */
function demandOwn(pool: Pool, caller: CallerId): void {
  if (maySee(caller, pool.spec.tenant)) return;
  throw new ControlError('conflict', `the name ${pool.pool} is taken: choose another`);
}

function replicaOf(fleet: Fleet, replica: string, caller: CallerId): Replica {
  const row = rowOf(fleet, 'replica', replica);
  if (maySee(caller, row.tenant)) return row;
  throw new ControlError('not-found', `there is no replica ${replica}`);
}

function demandVersion(kind: Kind, row: Row | undefined, ifMatch: number | null): void {
  if (ifMatch === null || (row?.version ?? 0) === ifMatch) return;
  const has = row === undefined ? 'is not there' : `has version ${row.version}`;
  throw new ControlError('conflict', `the ${kind} ${has}, not ${ifMatch}: read it again`);
}

function noted({ fleet }: Change, caller: CallerId, action: string, subject: string, detail = '') {
  fleet.audit.push({ actor: caller.name, action, subject, detail });
}

function clearedText(modules: readonly number[] | undefined): string {
  return modules === undefined ? '' : `modules ${modules.join(', ')} cleared`;
}

interface PageQuery {
  readonly after?: string | undefined;
  readonly limit: number;
}

function pageOf<K extends Kind>(fleet: Fleet, kind: K, query: PageQuery) {
  const all = [...fleet.rows(kind).entries()];
  const { rows, next } = paged(all, ([id]) => id, query);
  return { rows: rows.map(([, row]) => row), next };
}

function paged<T>(all: readonly T[], nameOf: (row: T) => string, { after, limit }: PageQuery) {
  const named = all.map((row) => ({ name: nameOf(row), row }));
  const rest = named
    .filter(({ name }) => after === undefined || name > after)
    .toSorted((one, other) => (one.name < other.name ? -1 : 1));
  const rows = rest.slice(0, limit);
  return { rows: rows.map(({ row }) => row), next: rest.length > limit ? rows.at(-1)!.name : null };
}
