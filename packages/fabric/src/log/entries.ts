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

export const CHANGES = [
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

export type QuarantineReason =
  | 'foreign-partition' // active, and nobody here meant it
  | 'table-changed' // without a plan of ours
  | 'foreign-process' // holds a GPU that we were to hand over
  | 'device-silent' // config space reads all ones, or the GPU left the bus
  | 'device-changed' // another identity than the one learnt for its place
  | 'reset-reaches-further' // a reset would hit what is not the tenancy's
  | 'fabric-fault' // Xid, SXid or a status of Fabric Manager with a radius
  | 'not-undone'; // a change that could neither be completed nor taken back
