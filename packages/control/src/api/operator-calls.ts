import { z } from '@hono/zod-openapi';
import {
  ApiKey,
  ApiKeySpec,
  Evidence,
  Gpu,
  Host,
  HostSpec,
  NearestMiss,
  Policy,
  PolicySpec,
  Pool,
  PoolSpec,
  Replica,
  Tenant,
  TenantSpec,
} from './fleet.ts';
import type { Call } from './routes.ts';
import { Digest, Id, Name, Sequence, Text, TimeMs } from './scalars.ts';

/** Rows of a list at most; more with `after`, the last one's name. */
const PAGE_ROWS = 200;

const page = z.object({
  after: z.string().max(128).optional(),
  limit: z.coerce.number().int().min(1).max(PAGE_ROWS).default(PAGE_ROWS),
});
/** `next` is what to give as `after`; null: that was all. */
const listOf = <T extends z.ZodType>(row: T) =>
  z.object({ rows: z.array(row), next: z.string().nullable() });
const byHost = z.object({ host: Name });
const byPool = z.object({ pool: Name });
const byReplica = z.object({ replica: Id });
const byTenant = z.object({ tenant: Name });
const byName = z.object({ name: Name });
const nothing = z.object({});
const from = z.object({
  from: z.coerce.number().pipe(Sequence).optional(),
});

/** A replica as its callers see it: what gateways authenticate with is not in it. */
const ReplicaView = Replica.omit({ credential: true, sealedKey: true });

const GpuView = Gpu.extend({ host: Name, replica: Id.nullable() });
const PartitionView = z.object({
  host: Name,
  id: z.int(),
  modules: z.array(z.int()),
  /** Whose its modules are; empty: it is free. */
  replicas: z.array(Id),
});
/** A tenancy is a replica's hold on its GPUs. */
const TenancyView = z.object({
  replica: Id,
  tenant: Name.nullable(),
  host: Name,
  partition: z.int(),
  modules: z.array(z.int()),
  epoch: z.int(),
  phase: z.string(),
  logIndex: Sequence.nullable(),
});

export const PlanRequest = z.strictObject({
  /** A pool as it would be: what PUT /v1/pools/{pool} takes. */
  pool: Name,
  spec: PoolSpec,
  /** A model and a GPU of the planner's, and the load of one replica; null: none is simulated. */
  load: z
    .strictObject({
      model: z.string().max(128),
      gpu: z.string().max(128),
      requestsPerSecond: z.number().gt(0).max(1e5),
      promptTokens: z.int().min(1).max(1e6),
      outputTokens: z.int().min(1).max(1e6),
      /** Milliseconds to the first token and between tokens; what is not limited is left out. */
      slo: z
        .strictObject({
          ttftMs: z.number().gt(0).optional(),
          itlMs: z.number().gt(0).optional(),
        })
        .nullable()
        .default(null),
    })
    .nullable()
    .default(null),
});

export const PlanAnswer = z
  .object({
    plan: Id,
    expiresMs: TimeMs,
    pool: Name,
    /** Where its replicas would go, as the fleet is now. */
    placements: z.array(
      z.object({
        host: Name,
        partition: z.int(),
        modules: z.array(z.int()),
        coldStartSeconds: z.number(),
        bridgeSecondsPerToken: z.number(),
      }),
    ),
    /** Why not all of them have a place; null: they have. */
    trouble: z.object({ cause: Text, nearest: NearestMiss.nullable() }).nullable(),
    coldStartSeconds: z.number(),
    /** What the bridge of the slowest of these hosts adds to a token. */
    bridgeSecondsPerToken: z.number(),
    /** Of one replica under that load, by the planner; null: none was given, or it has no place. */
    predicted: z
      .object({
        ttftSeconds: z.object({ p50: z.number(), p99: z.number() }),
        tpotSeconds: z.object({ p50: z.number(), p99: z.number() }),
        tokensPerSecond: z.number(),
        /** Which bridge was taken for the host's: a reference profile, or `off`. */
        law: z.string(),
        /** From nothing to a replica that serves, as the planner has it for this model. */
        coldStartSeconds: z.number(),
        /** What that bridge adds to a request under this load, over its tokens. */
        bridgeSecondsPerToken: z.number(),
        /** Part of the requests that break the SLO; null: there is none. */
        sloMissed: z.number().nullable(),
        /** Why one replica never gets done with this load; null: it does. */
        overload: z.string().nullable(),
        /** Requests that were simulated. */
        requests: z.int(),
      })
      .nullable(),
  })
  .openapi('Plan');

const Event = z
  .object({
    sequence: Sequence,
    atMs: TimeMs,
    kind: z.string(),
    id: z.string(),
    version: z.int(),
    /** The row as it is from then on; null: it is gone. */
    row: z.record(z.string(), z.unknown()).nullable(),
  })
  .openapi('Event');

const AuditRow = z.object({
  sequence: Sequence,
  atMs: TimeMs,
  actor: z.string(),
  action: z.string(),
  subject: z.string(),
  detail: z.string(),
});

const operators = ['operator'] as const;
const tenants = ['operator', 'tenant'] as const;

/**
 * What operators and tenants call. A tenant sees what is its own, and nothing of others. Writes
 * take `Idempotency-Key` (the same answer, however often) and `If-Match` (the version that it had).
 */
export const OPERATOR_CALLS = {
  status: {
    method: 'get',
    path: '/v1/status',
    summary: 'Whether this control leads, and counts of what there is',
    callers: operators,
    response: z.object({
      epoch: z.int(),
      sequence: Sequence,
      hosts: z.int(),
      gpus: z.int(),
      pools: z.int(),
      replicas: z.record(z.string(), z.int()),
    }),
  },
  listHosts: {
    method: 'get',
    path: '/v1/hosts',
    summary: 'Hosts',
    callers: operators,
    query: page,
    response: listOf(Host),
  },
  getHost: {
    method: 'get',
    path: '/v1/hosts/{host}',
    summary: 'One host',
    callers: operators,
    params: byHost,
    response: Host,
  },
  putHost: {
    method: 'put',
    path: '/v1/hosts/{host}',
    summary: 'Cordon or drain a host, take it back, clear GPUs from quarantine',
    callers: operators,
    params: byHost,
    body: HostSpec,
    response: Host,
  },
  deleteHost: {
    method: 'delete',
    path: '/v1/hosts/{host}',
    summary: 'Forget a host: its replicas and claims are given up, its agent is refused',
    callers: operators,
    params: byHost,
    response: nothing,
  },
  makeJoinToken: {
    method: 'post',
    path: '/v1/join-tokens',
    summary: 'A token with which one host may join, once, within an hour',
    callers: operators,
    body: z.strictObject({ host: Name }),
    response: z.object({ token: z.string(), expiresMs: TimeMs }),
  },
  listGpus: {
    method: 'get',
    path: '/v1/gpus',
    summary: 'GPUs of all hosts, and whose they are',
    callers: operators,
    query: page,
    response: listOf(GpuView),
  },
  listPartitions: {
    method: 'get',
    path: '/v1/partitions',
    summary: 'Partitions that hosts can activate, and whose they are',
    callers: operators,
    query: page,
    response: listOf(PartitionView),
  },
  listTenancies: {
    method: 'get',
    path: '/v1/tenancies',
    summary: 'Who holds which GPUs',
    callers: tenants,
    query: page,
    response: listOf(TenancyView),
  },
  listPools: {
    method: 'get',
    path: '/v1/pools',
    summary: 'Pools',
    callers: tenants,
    query: page,
    response: listOf(Pool),
  },
  getPool: {
    method: 'get',
    path: '/v1/pools/{pool}',
    summary: 'One pool',
    callers: tenants,
    params: byPool,
    response: Pool,
  },
  putPool: {
    method: 'put',
    path: '/v1/pools/{pool}',
    summary: 'What a pool shall be',
    callers: tenants,
    params: byPool,
    body: PoolSpec,
    response: Pool,
  },
  deletePool: {
    method: 'delete',
    path: '/v1/pools/{pool}',
    summary: 'Drain a pool’s replicas, and forget it',
    callers: tenants,
    params: byPool,
    response: nothing,
  },
  plan: {
    method: 'post',
    path: '/v1/plan',
    summary: 'What a pool would cost and where it would go; changes nothing',
    callers: tenants,
    body: PlanRequest,
    response: PlanAnswer,
  },
  commitPlan: {
    method: 'post',
    path: '/v1/plans/{plan}/commit',
    summary: 'Make the pool of a plan, if it still fits',
    callers: tenants,
    params: z.object({ plan: Id }),
    response: Pool,
  },
  listReplicas: {
    method: 'get',
    path: '/v1/replicas',
    summary: 'Replicas',
    callers: tenants,
    query: page,
    response: listOf(ReplicaView),
  },
  getReplica: {
    method: 'get',
    path: '/v1/replicas/{replica}',
    summary: 'One replica',
    callers: tenants,
    params: byReplica,
    response: ReplicaView,
  },
  drainReplica: {
    method: 'post',
    path: '/v1/replicas/{replica}/drain',
    summary: 'Let its streams end, then stop it; its pool starts another if it needs one',
    callers: tenants,
    params: byReplica,
    response: ReplicaView,
  },
  giveKey: {
    method: 'post',
    path: '/v1/replicas/{replica}/key',
    summary: 'The model’s key, sealed to the key that the replica’s evidence proves',
    callers: ['tenant'],
    params: byReplica,
    body: z.strictObject({ evidence: Id, sealedKey: z.string().min(1).max(8192) }),
    response: ReplicaView,
  },
  getEvidence: {
    method: 'get',
    path: '/v1/evidence/{evidence}',
    summary: 'An admission: what was shown, the challenge, what came of it',
    callers: tenants,
    params: z.object({ evidence: Id }),
    response: Evidence.extend({ report: z.string() }),
  },
  listTenants: {
    method: 'get',
    path: '/v1/tenants',
    summary: 'Tenants and their quotas',
    callers: operators,
    query: page,
    response: listOf(Tenant.omit({ salt: true })),
  },
  putTenant: {
    method: 'put',
    path: '/v1/tenants/{tenant}',
    summary: 'A tenant, its quota, and the pools that it may use',
    callers: operators,
    params: byTenant,
    body: TenantSpec,
    response: Tenant.omit({ salt: true }),
  },
  deleteTenant: {
    method: 'delete',
    path: '/v1/tenants/{tenant}',
    summary: 'Forget a tenant and its keys; its pools must be gone',
    callers: operators,
    params: byTenant,
    response: nothing,
  },
  listPolicies: {
    method: 'get',
    path: '/v1/policies',
    summary: 'What evidence must show',
    callers: tenants,
    query: page,
    response: listOf(Policy),
  },
  putPolicy: {
    method: 'put',
    path: '/v1/policies/{name}',
    summary: 'What evidence must show, and how long it is good for',
    callers: operators,
    params: byName,
    body: PolicySpec,
    response: Policy,
  },
  deletePolicy: {
    method: 'delete',
    path: '/v1/policies/{name}',
    summary: 'Forget a policy that no pool names',
    callers: operators,
    params: byName,
    response: nothing,
  },
  listKeys: {
    method: 'get',
    path: '/v1/keys',
    summary: 'API keys, without the keys',
    callers: operators,
    query: page,
    response: listOf(ApiKey),
  },
  makeKey: {
    method: 'post',
    path: '/v1/keys',
    summary: 'A new API key; it is told this once',
    callers: operators,
    body: ApiKeySpec,
    response: z.object({ key: z.string(), row: ApiKey }),
  },
  deleteKey: {
    method: 'delete',
    path: '/v1/keys/{digest}',
    summary: 'Refuse a key from now on',
    callers: operators,
    params: z.object({ digest: Digest }),
    response: nothing,
  },
  events: {
    method: 'get',
    path: '/v1/events',
    summary: 'Every row that changes, as it changes, from a sequence number on',
    callers: operators,
    query: from,
    response: Event,
    isStream: true,
  },
  audit: {
    method: 'get',
    path: '/v1/audit',
    summary: 'Who changed what',
    callers: operators,
    query: z.object({
      after: z.coerce.number().pipe(Sequence).default(0),
      limit: z.coerce.number().int().min(1).max(PAGE_ROWS).default(PAGE_ROWS),
    }),
    response: z.object({ rows: z.array(AuditRow) }),
  },
  operation: {
    method: 'get',
    path: '/v1/operations/{key}',
    summary: 'What an operation answered, by its idempotency key',
    callers: tenants,
    params: z.object({ key: z.string().min(1).max(128) }),
    response: z.object({ key: z.string(), atMs: TimeMs, result: z.unknown() }),
  },
} satisfies Readonly<Record<string, Call>>;
