/**
 * What control keeps. One leader at a time writes, in batches that are there as a whole or not at
 * all; each says under which epoch it leads, and the store refuses it once another has led. Rows
 * are JSON by kind and id; a few things are tables of their own because their keys are promises:
 * no GPU has two claims, no operation happens twice.
 *
 * All methods throw ControlError: 'fenced'; 'conflict' (a version or a claim is not as expected,
 * nothing was written); 'store-unavailable' (of `commit`: whether it was written is not known).
 */
export interface Store {
  /**
   * Makes `holder` the leader, or keeps it; null: another leads until its lease ends. `still`: a
   * lease that is over whatever it says, if it is still the one that is written.
   */
  acquire(
    holder: string,
    nowMs: number,
    leaseMs: number,
    still?: Lease | null,
  ): Promise<Lease | null>;
  /** Who leads, or led last; null: nobody has. */
  lease(): Promise<Lease | null>;
  /** Ends a lease early, so that the next leader need not wait. */
  release(lease: Lease): Promise<void>;
  /** Everything that a leader knows. */
  load(): Promise<StoreContents>;
  /** Sequences of the batch's changes are `sequence + 1` and so on, as the leader counts them. */
  commit(lease: Lease, batch: Batch): Promise<void>;
  /** Ascending; at most `limit`. */
  events(after: number, limit: number): Promise<readonly StoredEvent[]>;
  audit(after: number, limit: number): Promise<readonly AuditEntry[]>;
  /** What an operation answered, if it was done. */
  operation(key: string): Promise<Operation | null>;
  /** Which keys have what body: evidence that is not held in memory. */
  blob(id: string): Promise<string | null>;
  close(): Promise<void>;
}

export interface Lease {
  readonly holder: string;
  /** Fences: grows with each new leader. */
  readonly epoch: number;
  readonly expiresMs: number;
}

export interface StoredRow {
  readonly kind: string;
  readonly id: string;
  readonly version: number;
  readonly body: string;
}

export interface Claim {
  readonly host: string;
  readonly module: number;
  readonly replica: string;
}

export interface StoreContents {
  readonly sequence: number;
  readonly auditSequence: number;
  readonly rows: readonly StoredRow[];
  readonly claims: readonly Claim[];
}

export interface RowChange {
  readonly kind: string;
  readonly id: string;
  /** The version that it has now; 0: it is not there. */
  readonly from: number;
  /** Null: it goes. */
  readonly body: string | null;
}

export interface StoredEvent {
  readonly sequence: number;
  readonly atMs: number;
  readonly kind: string;
  readonly id: string;
  readonly version: number;
  readonly body: string | null;
}

export interface AuditEntry {
  readonly sequence: number;
  readonly atMs: number;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: string;
}

/** What was answered to a request that must not happen twice. */
export interface Operation {
  readonly key: string;
  /** Of the request: the same key with another request is a mistake. */
  readonly digest: string;
  readonly result: string;
  readonly atMs: number;
}

export interface Batch {
  readonly atMs: number;
  /** Of the last event before this batch. */
  readonly sequence: number;
  readonly changes: readonly RowChange[];
  readonly claims: readonly Claim[];
  readonly releases: readonly Claim[];
  readonly audit: readonly AuditEntry[];
  readonly operations: readonly Operation[];
  readonly blobs: readonly { readonly id: string; readonly body: string }[];
}
