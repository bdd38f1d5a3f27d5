import { z } from '@hono/zod-openapi';
import { Digest, Epoch, Id, Name, Secret32, Sequence, Text, TimeMs } from './scalars.ts';

/**
 * What a gateway needs to route, and nothing else: it comes whole once, then row by row, and a
 * gateway that has it keeps serving while control is away.
 */

export const RoutePool = z
  .object({
    pool: Name,
    /** What clients write into `model`; no two pools have one in common. */
    models: z.array(z.string().min(1).max(256)).min(1).max(16),
    /**
     * `serving`: has replicas that serve. `waking`: has none yet, and will. `asleep`: scaled to
     * zero; POST /v1/pools/{pool}/wake starts one. `stopped`: refuse.
     */
    state: z.enum(['serving', 'waking', 'asleep', 'stopped']),
    /** How long a wake-up is expected to take: for Retry-After, or to hold a request. */
    coldStartSeconds: z.number().min(0),
    /** Whose it is alone; null: of all tenants that may use it. */
    tenant: Name.nullable(),
  })
  .openapi('RoutePool');

export const RouteReplica = z
  .object({
    replica: Id,
    pool: Name,
    host: Name,
    /** `http(s)://host:port`, of the replica's own API. */
    address: z.url().max(256),
    /** Bearer key that the replica takes from gateways; null: it takes none. */
    credential: z.string().max(256).nullable(),
    /** SHA-256 of the SubjectPublicKeyInfo with which its TLS ends; null: it speaks plain HTTP. */
    tlsSpkiSha256: Digest.nullable(),
    /** `application/ohttp-keys` in base64url, as its evidence quotes them; null: it has none. */
    encryptionKeys: z.string().max(4096).nullable(),
    /** Raw Ed25519 in hex, as its evidence quotes it: signs its receipts; null: it has none. */
    receiptKey: Digest.nullable(),
    /** What the evidence that admitted it is called: GET /v1/evidence/{id}. */
    evidence: Id,
    /** When that evidence is too old; no new request is routed from then on. */
    evidenceNotAfterMs: TimeMs,
    /** Which tenancy of its GPUs this is: with `logIndex`, what a receipt names. */
    tenancyEpoch: Epoch,
    /** Index of the entry of the host's fabric log that activated it; null: no fabric. */
    logIndex: Sequence.nullable(),
    /** `draining`: finish streams, start none. What is not here serves nothing. */
    state: z.enum(['serving', 'draining']),
    /** Until when a draining replica's streams may last; null: it does not drain. */
    drainUntilMs: TimeMs.nullable(),
    /** Its share of new requests against others of the pool: 0 to 1000. */
    weight: z.int().min(0).max(1000),
    /** Requests that it takes at once. */
    inFlightMax: z.int().min(1),
  })
  .openapi('RouteReplica');

export const Quota = z
  .object({
    /** Null: no limit. */
    requestsPerMinute: z.int().min(1).nullable(),
    tokensPerMinute: z.int().min(1).nullable(),
    inFlightMax: z.int().min(1).nullable(),
    /** GPUs that the tenant's pools may hold together. */
    gpusMax: z.int().min(0).nullable(),
    /** Share under contention, against other tenants'. */
    weight: z.int().min(1).max(1000),
  })
  .openapi('Quota');

export const RouteTenant = z
  .object({
    tenant: Name,
    quota: Quota,
    /** Pools that it may use; null: all that are nobody's own. */
    pools: z.array(Name).max(256).nullable(),
    /** Mixed into digests of its prefixes, so that equal prompts of two tenants are not. */
    salt: Secret32,
  })
  .openapi('RouteTenant');

export const RouteKey = z
  .object({
    /** SHA-256 of the whole key as clients send it. */
    digest: Digest,
    tenant: Name,
    /** For receipts and logs; says nothing of the key. */
    keyId: Id,
    notAfterMs: TimeMs.nullable(),
  })
  .openapi('RouteKey');

/** Keys the digests of prefixes by which requests find their replica: the same in all gateways. */
export const RouteSecret = z.object({ prefixKey: Secret32, madeMs: TimeMs }).openapi('RouteSecret');

/** Everything, as of `sequence`. Event `table` of GET /v1/routing/events. */
export const RoutingTable = z
  .object({
    sequence: Sequence,
    secret: RouteSecret,
    pools: z.array(RoutePool),
    replicas: z.array(RouteReplica),
    tenants: z.array(RouteTenant),
    keys: z.array(RouteKey),
  })
  .openapi('RoutingTable');

/** One row that is new or other than before, or gone. Event `change`. */
export const RoutingChange = z
  .discriminatedUnion('kind', [
    z.object({ kind: z.literal('pool'), sequence: Sequence, put: RoutePool }),
    z.object({ kind: z.literal('replica'), sequence: Sequence, put: RouteReplica }),
    z.object({ kind: z.literal('tenant'), sequence: Sequence, put: RouteTenant }),
    z.object({ kind: z.literal('key'), sequence: Sequence, put: RouteKey }),
    z.object({ kind: z.literal('secret'), sequence: Sequence, put: RouteSecret }),
    z.object({
      kind: z.literal('gone'),
      sequence: Sequence,
      /** Which: the pool's name, the replica's id, the tenant's name, the key's digest. */
      of: z.enum(['pool', 'replica', 'tenant', 'key']),
      name: z.string().max(128),
    }),
  ])
  .openapi('RoutingChange');

/** What a gateway says of itself and of what it sees, every few seconds: the latest counts. */
export const GatewayReport = z
  .object({
    gateway: Name,
    /** Of this start of the gateway; a report that is older than the last one changes nothing. */
    startedMs: TimeMs,
    sequence: Sequence,
    /** By pool: what control scales by. */
    pools: z
      .array(
        z.object({
          pool: Name,
          inFlight: z.int().min(0),
          waiting: z.int().min(0),
          /** Since the gateway's start. */
          requests: z.int().min(0),
          tokens: z.int().min(0),
          /** When the last request came; null: none since its start. */
          lastRequestMs: TimeMs.nullable(),
        }),
      )
      .max(4096),
    /** Replicas to which requests fail: control looks at them itself before it believes it. */
    failing: z.array(z.object({ replica: Id, reason: Text })).max(256),
    /** Since the gateway's start, by tenant. */
    usage: z
      .array(
        z.object({
          tenant: Name,
          requests: z.int().min(0),
          promptTokens: z.int().min(0),
          completionTokens: z.int().min(0),
        }),
      )
      .max(65_536),
    /** In-flight requests by draining replica: a replica without any stops at once. */
    draining: z.array(z.object({ replica: Id, inFlight: z.int().min(0) })).max(4096),
  })
  .openapi('GatewayReport');

/**
 * Which part of every tenant's quota a gateway may give out: the `index`th of `of` equal ones. The
 * parts of all gateways that are heard are the whole.
 */
export const QuotaShare = z
  .object({ index: z.int().min(0), of: z.int().min(1) })
  .openapi('QuotaShare');

/** `share` is null while control does not know yet who else there is: the last one holds. */
export const ReportAnswer = z.object({ share: QuotaShare.nullable() });

export type QuotaShare = Readonly<z.output<typeof QuotaShare>>;
export type RoutePool = Readonly<z.output<typeof RoutePool>>;
export type RouteReplica = Readonly<z.output<typeof RouteReplica>>;
export type Quota = Readonly<z.output<typeof Quota>>;
export type RouteTenant = Readonly<z.output<typeof RouteTenant>>;
export type RouteKey = Readonly<z.output<typeof RouteKey>>;
export type RouteSecret = Readonly<z.output<typeof RouteSecret>>;
export type RoutingTable = Readonly<z.output<typeof RoutingTable>>;
export type RoutingChange = Readonly<z.output<typeof RoutingChange>>;
export type GatewayReport = Readonly<z.output<typeof GatewayReport>>;
