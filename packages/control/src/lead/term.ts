import type { RoutingChange } from '../api/routing.ts';
import { ControlError } from '../errors.ts';
import { type Chance, type Change, type Heard, nothingHeard } from '../fleet/context.ts';
import { Fleet } from '../fleet/fleet.ts';
import { routingChanges } from '../fleet/routing.ts';
import type { Lease, Operation, RowChange, Store, StoreContents } from '../store/store.ts';

/** Changes that are written together at most. */
const CHANGES_PER_COMMIT = 64;
/** Changes that wait at most: more are refused at once. */
const WAITING_MAX = 4096;

/** What was written at once, for those who watch. */
export interface Committed {
  /** Of its last change. */
  readonly sequence: number;
  readonly atMs: number;
  /** How long the store took. */
  readonly seconds: number;
  readonly changes: readonly RowChange[];
  readonly routing: readonly RoutingChange[];
}

export interface Request<T> {
  /** Who changes it, for the audit log. */
  readonly actor: string;
  /** What shall happen once, whatever is repeated; null: it may be repeated. */
  readonly operation: { readonly key: string; readonly digest: string } | null;
  /** Throws ControlError: then nothing is changed. */
  readonly make: (change: Change) => T;
}

interface Waiting {
  readonly request: Request<unknown>;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export interface TermOptions {
  readonly store: Store;
  readonly lease: Lease;
  readonly contents: StoreContents;
  readonly chance: Chance;
  readonly nowMs: () => number;
  readonly onCommit: (committed: Committed) => void;
  /** The term is over: what it knows may be old. */
  readonly onEnd: (error: ControlError) => void;
}

/**
 * The time in which one control leads. Changes are made one after the other on what was written
 * before, and are written in batches: a reader never sees what could still fail. With the first
 * batch of which it is not known whether it was written the term ends, and the next one reads.
 */
export class Term {
  readonly lease: Lease;
  readonly heard: Heard;
  readonly #options: TermOptions;
  readonly #fleet: Fleet;
  readonly #waiting: Waiting[] = [];
  #sequence: number;
  #auditSequence: number;
  #isWriting = false;
  #ended: ControlError | null = null;
  #leasedUntilMs: number;

  constructor(options: TermOptions) {
    const { contents, lease, nowMs } = options;
    this.#options = options;
    this.lease = lease;
    this.#leasedUntilMs = lease.expiresMs;
    this.#fleet = Fleet.of(contents);
    this.#sequence = contents.sequence;
    this.#auditSequence = contents.auditSequence;
    this.heard = nothingHeard(nowMs);
  }

  /** What was written; to be read, never changed. */
  get fleet(): Fleet {
    return this.#fleet;
  }

  /** Of the last change that was written. */
  get sequence(): number {
    return this.#sequence;
  }

  get isOver(): boolean {
    return this.#ended !== null;
  }

  /**
   * Whether nobody else can lead now. One that was paused finds here, before it reads out what it
   * knows, that another may have led since; what it writes is fenced by the store.
   */
  get isLeased(): boolean {
    return this.#options.nowMs() < this.#leasedUntilMs;
  }

  renewed({ expiresMs }: Pick<Lease, 'expiresMs'>): void {
    this.#leasedUntilMs = expiresMs;
  }

  /** Resolves once it is written. Throws what `make` throws, and ControlError of the store. */
  change<T>(request: Request<T>): Promise<T> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    if (this.#waiting.length >= WAITING_MAX) {
      const message = `${WAITING_MAX} changes wait to be written: try again`;
      return Promise.reject(new ControlError('store-unavailable', message));
    }
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ request, resolve: resolve as (result: unknown) => void, reject });
      if (!this.#isWriting) void this.#writeAll();
    });
  }

  /** Ends it; what waits is refused. */
  end(error: ControlError): void {
    if (this.#ended !== null) return;
    this.#ended = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#options.onEnd(error);
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    while (this.#waiting.length > 0 && this.#ended === null) {
      await this.#writeSome(this.#waiting.splice(0, CHANGES_PER_COMMIT));
    }
    // At once: what comes in between would wait for nobody.
    this.#isWriting = false;
  }

  async #writeSome(some: readonly Waiting[]): Promise<void> {
    const { store, chance } = this.#options;
    const nowMs = this.#options.nowMs();
    const draft = this.#fleet.draft();
    const operations: Operation[] = [];
    const done: { readonly waiting: Waiting; readonly result: unknown }[] = [];
    for (const waiting of some) {
      const { request, reject } = waiting;
      const own = draft.draft();
      try {
        const result = request.make({ fleet: own, heard: this.heard, nowMs, chance });
        if (request.operation !== null) {
          const { key, digest } = request.operation;
          // Two of the same in one batch: the second is found by its key when it is repeated.
          if (operations.some((other) => other.key === key)) {
            throw new ControlError('conflict', 'the same operation is being done: ask again');
          }
          operations.push({ key, digest, result: JSON.stringify(result ?? null), atMs: nowMs });
        }
        own.fold();
        done.push({ waiting, result });
      } catch (error) {
        reject(error);
      }
    }
    const { changes, claims, releases } = draft.changes();
    const audit = draft.audit.map((entry, index) => ({
      sequence: this.#auditSequence + index + 1,
      atMs: nowMs,
      ...entry,
    }));
    const isEmpty =
      changes.length === 0 &&
      claims.length + releases.length + audit.length + operations.length === 0;
    if (!isEmpty) {
      const { blobs } = draft;
      const sequence = this.#sequence;
      const parts = { changes, claims, releases, audit, operations, blobs };
      try {
        await store.commit(this.lease, { atMs: nowMs, sequence, ...parts });
      } catch (cause) {
        const error = unknownOutcome(cause);
        for (const { waiting } of done) waiting.reject(error);
        this.end(error);
        return;
      }
      this.#sequence += changes.length;
      this.#auditSequence += audit.length;
      const routing = routingChanges(this.#fleet, draft, changes, this.#sequence);
      draft.fold();
      const seconds = Math.max(0, this.#options.nowMs() - nowMs) / 1000;
      this.#options.onCommit({ sequence: this.#sequence, atMs: nowMs, seconds, changes, routing });
    }
    for (const { waiting, result } of done) waiting.resolve(result);
  }
}

function unknownOutcome(cause: unknown): ControlError {
  if (!(cause instanceof ControlError)) throw cause;
  if (cause.code !== 'store-unavailable') return cause;
  const message = `it is not known whether this was written (${cause.message}): ask again`;
  return new ControlError('outcome-unknown', message, { cause });
}
