import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * Who vouches for an entry. `host`: an agent on the host, the operator's word. `service-vm`: agent
 * and Fabric Manager in a measured VM whose quote has the log's key. `guest`: in the tenant's own.
 */
export type Grade = 'host' | 'service-vm' | 'guest';

/** What every entry begins with. */
export interface EntryHead {
  readonly host: string;
  readonly bootId: string;
  readonly grade: Grade;
  /** Wall clock: for people. Order is the log's, and deadlines have another clock. */
  readonly atMs: number;
}

/** What a tenancy is in the log: everybody can tell two apart, and only its tenant whose it is. */
export interface LoggedTenancy {
  /** SHA-256 of tenant, tenancy and salt, 64 hex digits. The tenant holds what opens it. */
  readonly commitment: string;
  /** Counts the lives of a tenancy; later commands have higher ones. */
  readonly epoch: number;
  /** In clear, so that anybody can replay that no module has two owners. */
  readonly modules: readonly number[];
  readonly partition: number;
}

const CHANGES = [
  'claim',
  'fence',
  'sanitize',
  'activate',
  'bind',
  'boot',
  'attest',
  'admit',
  'drain',
  'stop',
  'unbind',
  'deactivate',
  'release',
] as const;

/** One arrow of a tenancy's life; all are logged before and after. */
export type Change = (typeof CHANGES)[number];

export type LogEntry =
  /** First entry of every start of an agent. */
  | (EntryHead & {
      readonly kind: 'agent-started';
      readonly agentVersion: string;
      readonly fmVersion: string | null;
      readonly driverVersion: string | null;
    })
  /** Which device is where on the board, as learnt; a later entry replaces what it names. */
  | (EntryHead & {
      readonly kind: 'devices';
      readonly devices: readonly { readonly module: number; readonly identity: string }[];
    })
  /** The partitions that Fabric Manager has, whenever they are not those logged last. */
  | (EntryHead & {
      readonly kind: 'table';
      readonly digest: string;
      readonly partitions: readonly { readonly id: number; readonly modules: readonly number[] }[];
    })
  /** Before a change; repeated when an agent that restarted repeats it. */
  | (EntryHead & {
      readonly kind: 'intent';
      readonly change: Change;
      readonly tenancy: LoggedTenancy;
    })
  /** After it was observed. */
  | (EntryHead & {
      readonly kind: 'fact';
      readonly change: Change;
      readonly tenancy: LoggedTenancy;
    })
  /** Before Fabric Manager is started anew, by this agent. */
  | (EntryHead & { readonly kind: 'fm-restart-intent'; readonly mode: RestartMode })
  /** It is another process than before: what was active, and what is. */
  | (EntryHead & {
      readonly kind: 'fm-restarted';
      /** Null: it restarted by itself. */
      readonly mode: RestartMode | null;
      readonly tableDigest: string;
      readonly before: readonly number[];
      readonly after: readonly number[];
    })
  /** Something that no intent explains; the modules are out of service. */
  | (EntryHead & {
      readonly kind: 'alarm';
      readonly reason: QuarantineReason;
      readonly modules: readonly number[];
    })
  /** An operator took modules back into service. */
  | (EntryHead & { readonly kind: 'cleared'; readonly modules: readonly number[] });

/** `resume`: with the list of active partitions (FABRIC_MODE_RESTART=1). `plain`: all inactive. */
export type RestartMode = 'resume' | 'plain';

/** Why modules are out of service until an operator has looked. */
export const QUARANTINE_REASONS = [
  'foreign-partition', // active, and no intent of ours
  'table-changed', // without a plan
  'foreign-process', // holds a GPU that was to be handed over
  'device-silent', // config space reads all ones, or the GPU left the bus
  'device-changed', // another identity than the one learnt for its place
  'reset-reaches-further', // a reset would hit what is not the tenancy's
  'fabric-fault', // Xid, SXid or a status of Fabric Manager
  'not-undone', // a change that could be neither completed nor taken back
] as const;

export type QuarantineReason = (typeof QUARANTINE_REASONS)[number];

/** What opens a commitment; given to the tenant, and to no one else. */
export interface Opening {
  readonly tenant: string;
  readonly tenancy: string;
  /** 64 hex digits, new for each life. */
  readonly salt: string;
}

/** SHA-256 of one line each for what it is, salt, tenant and tenancy. */
export function commitmentOf({ tenant, tenancy, salt }: Opening): string {
  const text = `fabric tenancy v1\n${salt}\n${tenant}\n${tenancy}\n`;
  return createHash('sha256').update(text).digest('hex');
}

const hex32 = z.string().regex(/^[0-9a-f]{64}$/);
const count = z.int().min(0);
const modules = z.array(z.int().min(1).max(16)).max(16).readonly();
const words = z.string().max(256);
const head = {
  host: words,
  bootId: words,
  grade: z.enum(['host', 'service-vm', 'guest']),
  atMs: z.number(),
};
const tenancy = z.strictObject({ commitment: hex32, epoch: count, modules, partition: count });
const partition = z.strictObject({ id: count, modules });
const restartMode = z.enum(['resume', 'plain']);
const ids = z.array(count).max(64).readonly();

const entrySchema = z.discriminatedUnion('kind', [
  z.strictObject({
    ...head,
    kind: z.literal('agent-started'),
    agentVersion: words,
    fmVersion: words.nullable(),
    driverVersion: words.nullable(),
  }),
  z.strictObject({
    ...head,
    kind: z.literal('devices'),
    devices: z.array(z.strictObject({ module: z.int().min(1).max(16), identity: words })).max(64),
  }),
  z.strictObject({
    ...head,
    kind: z.literal('table'),
    digest: words,
    partitions: z.array(partition).max(64),
  }),
  z.strictObject({ ...head, kind: z.literal('intent'), change: z.enum(CHANGES), tenancy }),
  z.strictObject({ ...head, kind: z.literal('fact'), change: z.enum(CHANGES), tenancy }),
  z.strictObject({ ...head, kind: z.literal('fm-restart-intent'), mode: restartMode }),
  z.strictObject({
    ...head,
    kind: z.literal('fm-restarted'),
    mode: restartMode.nullable(),
    tableDigest: words,
    before: ids,
    after: ids,
  }),
  z.strictObject({
    ...head,
    kind: z.literal('alarm'),
    reason: z.enum(QUARANTINE_REASONS),
    modules,
  }),
  z.strictObject({ ...head, kind: z.literal('cleared'), modules }),
]);

/** An entry as an agent wrote it; null: it is none that this version knows. */
export function readLogEntry(text: string): LogEntry | null {
  try {
    return entrySchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** A line break in one would open the commitment of others: two splits of one text. */
const line = words.regex(/^[^\p{C}]*$/u);
const openingsSchema = z
  .array(z.strictObject({ tenant: line, tenancy: line, salt: hex32 }))
  .max(1024);

/** What opens a tenant's commitments, as JSON; null: it is not that. */
export function readOpenings(text: string): readonly Opening[] | null {
  try {
    return openingsSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
