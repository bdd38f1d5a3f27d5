import { z } from '@hono/zod-openapi';
import { Quota } from './routing.ts';
import { Digest, Epoch, Id, Name, Secret32, Sequence, Text, TimeMs } from './scalars.ts';

/** Of one row: how often it was written. `If-Match` takes it. */
const version = z.int().min(1);
const modules = z.array(z.int().min(1).max(16)).max(16);
const grade = z.enum(['host', 'service-vm', 'guest']);
const software = z.string().max(64);

export const Gpu = z.strictObject({
  /** Its place on the board. */
  module: z.int().min(1).max(16),
  /** Permanent identity (PDI), as its certificates say; null: not learnt yet. */
  identity: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .nullable(),
  /** Confidential computing, as the driver says. */
  ccMode: z.enum(['on', 'devtools', 'off', 'unknown']),
  isHealthy: z.boolean(),
});

const PartitionDefinition = z.strictObject({ id: z.int().min(0), modules: modules.min(1) });

/** The host that came nearest to what was wanted, what it lacks, and what would lift that. */
export const NearestMiss = z.object({
  host: z.string(),
  cause: Text,
  /** Left out by controls that did not say it yet. */
  lift: Text.nullish(),
});

/** What a host is, as its agent says; the operator's word until evidence says it. */
export const HostFacts = z.strictObject({
  platform: z.string().max(32),
  driverVersion: software.nullable(),
  fmVersion: software.nullable(),
  /** Who vouches for its fabric. */
  grade,
  gpus: z.array(Gpu).max(16),
  /** What may be activated; of a host without a fabric, each set that it can give a guest. */
  partitions: z.array(PartitionDefinition).max(256),
  /** Fabric Manager is being restarted, or the table changes. */
  isFrozen: z.boolean(),
  quarantined: z.array(z.strictObject({ module: z.int().min(1).max(16), reason: Text })).max(16),
  /** From nothing to a guest that answers, without weights; measured or assumed, in seconds. */
  bootSeconds: z.number().min(0).max(86_400),
  /** How fast weights get onto its GPUs. */
  loadBytesPerSecond: z.number().min(1),
  /** Its bridge: what one crossing costs, and which profile says so; null: not measured. */
  bridge: z.strictObject({ profile: z.string().max(128), tollNs: z.number().min(0) }).nullable(),
});

/** `joined`: it has not said yet what it is. */
const HostState = z.enum(['joined', 'ready', 'cordoned', 'draining']);

export const Host = z
  .object({
    host: Name,
    state: HostState,
    /** Since when nothing was heard of it; null: it is there. */
    lostSinceMs: TimeMs.nullable(),
    facts: HostFacts.nullable(),
    /** Taken out of service by control, by module, until an operator clears them. */
    quarantined: z.array(z.object({ module: z.int(), reason: Text, atMs: TimeMs })),
    bootId: z.string().nullable(),
    /** SHA-256 of the key of its agent's certificate. */
    agentSpkiSha256: Digest,
    joinedMs: TimeMs,
    /** Last head of its fabric log, a signed note; null: it has no fabric. */
    checkpoint: z.string().max(4096).nullable(),
    /** The last that held of a guest there since its boot; null or left out: none did. */
    lastEvidence: z.object({ id: Id, atMs: TimeMs }).nullish(),
    /** Of this control's commands to it. */
    desiredSequence: Sequence,
    version,
  })
  .openapi('Host');

/** What a host shall be; the rest of it is observed. */
export const HostSpec = z.strictObject({
  /** `ready` takes it back from `cordoned` (no new replicas) and `draining` (and none at all). */
  state: z.enum(['ready', 'cordoned', 'draining']),
  /** Modules that a person has looked at: back from quarantine. */
  clear: modules.optional(),
});

export const PoolSpec = z.strictObject({
  /** What clients write into `model`. */
  models: z.array(z.string().min(1).max(256)).min(1).max(16),
  /** What is started: a name in the catalogue of the host's agent, never a command. */
  image: Name,
  /** Weights, by which a cold start is predicted. */
  weightBytes: z.int().min(0).default(0),
  gpus: z.int().min(1).max(16).default(1),
  platform: z.string().max(32).nullable().default(null),
  driverVersion: software.nullable().default(null),
  grades: z.array(grade).min(1).max(3).default(['host', 'service-vm', 'guest']),
  /** Only on hosts where evidence of a guest held so lately; null: anywhere. */
  evidenceMaxAgeSeconds: z
    .int()
    .min(1)
    .max(30 * 86_400)
    .nullable()
    .default(null),
  /** What evidence must show before it serves. */
  policy: Name,
  /** Whose it is alone; null: of all tenants that may use it. */
  tenant: Name.nullable().default(null),
  /** Of 32 bytes, in hex, mixed into every challenge: the tenant's own freshness. */
  tenantNonce: Digest.nullable().default(null),
  /** `tenant`: it serves once the tenant has sealed its model's key to the key it proved. */
  keyRelease: z.enum(['none', 'tenant']).default('none'),
  replicas: z
    .strictObject({ min: z.int().min(0).max(1000), max: z.int().min(0).max(1000) })
    .refine(({ min, max }) => min <= max, 'min must be at most max'),
  /** Replicas that are attested and do not serve yet, besides. */
  warm: z.int().min(0).max(100).default(0),
  /** Requests that a replica takes at once. */
  inFlightMax: z.int().min(1).max(65_536).default(64),
  /** Share of that at which another replica is started. */
  targetLoad: z.number().min(0.05).max(1).default(0.7),
  /** Without requests for so long, it goes down to `min`. */
  idleSeconds: z.int().min(1).max(86_400).default(300),
  /** How long streams of a draining replica may last. */
  drainSeconds: z.int().min(0).max(86_400).default(300),
  /** How long a replica may take until it is attested. */
  startSeconds: z.int().min(1).max(86_400).default(1800),
  /** Tokens that a replica is expected to serve: what a slower bridge costs over them. */
  tokensExpected: z.number().min(0).default(1e7),
});

export const Pool = z
  .object({
    pool: Name,
    spec: PoolSpec,
    /** Grows where a change of the spec needs other replicas. */
    generation: z.int().min(1),
    /** A wake-up holds it above zero until then. */
    wakeUntilMs: TimeMs,
    /** Replicas that failed in a row, and when the next one may be started. */
    failures: z.int().min(0),
    notBeforeMs: TimeMs,
    /** Why it has fewer replicas than it shall; null: it has them or they are on their way. */
    trouble: z
      .object({
        cause: Text,
        nearest: NearestMiss.nullable(),
      })
      .nullable(),
    version,
  })
  .openapi('Pool');

/**
 * `starting`: its host brings it up. `attesting`: it answers, and is asked for evidence.
 * `warm`: attested, without its key or without being needed. `serving`. `draining`: streams end.
 * `stopping`: its host takes it down, and its GPUs are claimed until it says that it has.
 */
export const ReplicaPhase = z.enum([
  'starting',
  'attesting',
  'warm',
  'serving',
  'draining',
  'stopping',
]);

export const Replica = z
  .object({
    replica: Id,
    pool: Name,
    generation: z.int().min(1),
    tenant: Name.nullable(),
    host: Name,
    /** Of the host's table. */
    partition: z.int(),
    modules,
    /** Which tenancy of these GPUs it is. */
    epoch: Epoch,
    madeMs: TimeMs,
    phase: ReplicaPhase,
    phaseSinceMs: TimeMs,
    /** Why it drains or stops; null: it does not. */
    reason: Text.nullable(),
    /** By when it must be attested, or drained. */
    deadlineMs: TimeMs.nullable(),
    /** Bearer key that it takes from gateways. */
    credential: z.string(),
    address: z.string().nullable(),
    /** What it must answer with evidence for; null: none is due. */
    challenge: z.object({ nonce: Digest, atMs: TimeMs }).nullable(),
    /** Of the last evidence that held. */
    evidence: z
      .object({
        id: Id,
        notAfterMs: TimeMs,
        encryptionKeys: z.string().nullable(),
        receiptKey: Digest.nullable(),
        tlsSpkiSha256: Digest.nullable(),
      })
      .nullable(),
    /** The model's key, sealed by the tenant to what the evidence proved; null: not given. */
    sealedKey: z.string().max(8192).nullable(),
    logIndex: Sequence.nullable(),
    /** By which its fabric's log calls this tenancy; null or left out: it has no fabric. */
    tenancyEpoch: Epoch.nullish(),
    /** How long it took until it served, once it does; before that, as predicted. */
    coldStartSeconds: z.number(),
    /** The command to its host that put it there; and the one that took it away. */
    wantedSequence: Sequence,
    unwantedSequence: Sequence.nullable(),
    version,
  })
  .openapi('Replica');

export const TenantSpec = z.strictObject({
  quota: Quota,
  /** Pools that it may use; null: all that are nobody's own. */
  pools: z.array(Name).max(256).nullable().default(null),
});

export const Tenant = z
  .object({ tenant: Name, spec: TenantSpec, salt: Secret32, version })
  .openapi('Tenant');

/** The key itself is told once, when it is made. */
export const ApiKey = z
  .object({
    keyId: Id,
    digest: Digest,
    role: z.enum(['operator', 'gateway', 'tenant', 'metrics']),
    /** Of the role `tenant`. */
    tenant: Name.nullable(),
    label: Text,
    madeMs: TimeMs,
    notAfterMs: TimeMs.nullable(),
    version,
  })
  .openapi('ApiKey');

export const ApiKeySpec = z.strictObject({
  role: z.enum(['operator', 'gateway', 'tenant', 'metrics']),
  tenant: Name.nullable().default(null),
  label: Text.default(''),
  notAfterMs: TimeMs.nullable().default(null),
});

export const PolicySpec = z.strictObject({
  /** As `bridgekeeper verify --policy` takes: a built-in one's name, or the document. */
  policy: z.union([z.string().max(64), z.record(z.string(), z.unknown())]),
  /** How long evidence is good for. A replica is asked again when half of it is over. */
  maxAgeSeconds: z
    .int()
    .min(10)
    .max(30 * 86_400),
});

export const Policy = z.object({ name: Name, spec: PolicySpec, version }).openapi('Policy');

/** The record of an admission: what was shown, to which question, and what came of it. */
export const Evidence = z
  .object({
    evidence: Id,
    replica: Id,
    host: Name,
    epoch: Epoch,
    /** The entry of its fabric's log that activated it, and what that calls it. */
    logIndex: Sequence.nullish(),
    tenancyEpoch: Epoch.nullish(),
    policy: Name,
    nonce: Digest,
    /** Mixed into the nonce. */
    controlNonce: Digest,
    tenantNonce: Digest.nullable(),
    atMs: TimeMs,
    notAfterMs: TimeMs,
    isAccepted: z.boolean(),
    /** Why not; empty: it was. */
    refusals: z.array(z.string()).max(64),
    /** Of the report, which is kept whole beside it. */
    reportSha256: Digest,
    version,
  })
  .openapi('Evidence');

export type NearestMiss = Readonly<z.output<typeof NearestMiss>>;
export type Gpu = Readonly<z.output<typeof Gpu>>;
export type HostFacts = Readonly<z.output<typeof HostFacts>>;
export type Host = Readonly<z.output<typeof Host>>;
export type HostSpec = Readonly<z.output<typeof HostSpec>>;
export type PoolSpec = Readonly<z.output<typeof PoolSpec>>;
export type Pool = Readonly<z.output<typeof Pool>>;
export type ReplicaPhase = z.output<typeof ReplicaPhase>;
export type Replica = Readonly<z.output<typeof Replica>>;
export type TenantSpec = Readonly<z.output<typeof TenantSpec>>;
export type Tenant = Readonly<z.output<typeof Tenant>>;
export type ApiKey = Readonly<z.output<typeof ApiKey>>;
export type Policy = Readonly<z.output<typeof Policy>>;
export type PolicySpec = Readonly<z.output<typeof PolicySpec>>;
export type Evidence = Readonly<z.output<typeof Evidence>>;
