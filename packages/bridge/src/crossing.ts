/** Host to device, or device to host. */
export type Direction = 'h2d' | 'd2h';

/** Why bytes cross. Closed: the ledger, the metrics and receipts account by purpose. */
export const PURPOSES = [
  'weights',
  'command',
  'grammar',
  'tokens',
  'kv-spill',
  'kv-restore',
  'probe',
] as const;
export type Purpose = (typeof PURPOSES)[number];

/** The kind of host memory a copy reads or writes: the law prices them differently. */
export type HostMemoryKind = 'pinned' | 'pageable';

/** Crossings that carry bytes of several tenants at once (a packed command, a ring of tokens). */
export const SHARED_TENANT = 'shared';

/** One host-device transfer, before it is made. */
export interface Crossing {
  readonly direction: Direction;
  readonly bytes: number;
  readonly purpose: Purpose;
  readonly tenant: string;
  readonly memory: HostMemoryKind;
}

/** One host-device transfer, after it was made: what a ledger takes. Times are the device's. */
export interface CrossingRecord extends Crossing {
  readonly lane: string;
  /** When the issuing thread asked for it. */
  readonly issuedNs: number;
  /** When the channel began to serve it: everything queued before it was done. */
  readonly startedNs: number;
  readonly completedNs: number;
  /** How long the issuing thread was blocked for it. */
  readonly issuerBlockedNs: number;
}
