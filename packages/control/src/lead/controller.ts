import type { ControlError } from '../errors.ts';
import { ControlError as Refusal } from '../errors.ts';
import type { Chance, Change } from '../fleet/context.ts';
import type { Fleet } from '../fleet/fleet.ts';
import { reconcile } from '../fleet/reconcile.ts';
import type { Lease, Store } from '../store/store.ts';
import type { Time } from '../time.ts';
import { type Committed, Term } from './term.ts';

/** A leader that is not heard of for so long is replaced; it renews three times within it. */
const LEASE_MS = 3000;
const RENEW_MS = LEASE_MS / 3;
/** How long one waits that does not lead, or whose store is away. */
const RETRY_MS = 250;
const ROUND_MS = 1000;
/** A clock that was set back by more than that cannot tell how long ago something was heard. */
const BACK_MS_MAX = 1000;
/**
 * Who leads renews. A lease that stands as it is for so many looks is over, whatever the clock of
 * its holder said: it may have been hours ahead.
 */
const STILL_LOOKS = (4 * LEASE_MS) / RETRY_MS;

export interface ControllerOptions {
  /** Of this start: no other has it. */
  readonly holder: string;
  readonly store: Store;
  readonly chance: Chance;
  readonly time: Time;
  /** What a fleet must have that lacks it, made before a term begins. */
  readonly prepare: (fleet: Fleet) => Promise<(change: Change) => void>;
  /** Called with each term that begins, before anything else reaches it. */
  readonly onTerm: (term: Term) => void;
  /** It is over: whoever follows it hears nothing more from it. */
  readonly onTermEnd: (term: Term) => void;
  readonly onCommit: (term: Term, committed: Committed) => void;
  /** A round was written, after so long. */
  readonly onRound: (seconds: number) => void;
  readonly onTrouble: (error: ControlError) => void;
}

/** Leads when it can: term after term, until it is stopped. */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #stop = new AbortController();
  #term: Term | null = null;
  #nudge: (() => void) | null = null;
  /** The lease of another, as it was at the last look. */
  #other: Lease | null = null;
  #looks = 0;

  constructor(options: ControllerOptions) {
    this.#options = options;
  }

  /** The term in which this control leads. Throws ControlError 'not-leader'. */
  get term(): Term {
    if (this.#term !== null && !this.#term.isOver && this.#term.isLeased) return this.#term;
    throw new Refusal('not-leader', 'this control does not lead: another does, or none yet');
  }

  /** Has the next round come now rather than in a second. */
  nudge(): void {
    this.#nudge?.();
  }

  stop(): void {
    this.#stop.abort();
    this.#nudge?.();
  }

  /** Returns once it was stopped and its lease is given back. */
  async run(): Promise<void> {
    const { store, time, onTrouble } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const lease = await this.#acquire();
        if (lease !== null) {
          const contents = await store.load();
          const term: Term = new Term({
            ...this.#options,
            lease,
            contents,
            nowMs: time.nowMs,
            onCommit: (committed) => this.#options.onCommit(term, committed),
            onEnd: (error) => {
              if (!signal.aborted) onTrouble(error);
              this.#options.onTermEnd(term);
              this.#nudge?.();
            },
          });
          await this.#lead(term);
        }
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        onTrouble(error);
      }
      if (!signal.aborted) await time.sleep(RETRY_MS, signal);
    }
  }

  /** null: another leads. */
  async #acquire(): Promise<Lease | null> {
    const { store, holder, time } = this.#options;
    const still = this.#looks < STILL_LOOKS ? null : this.#other;
    const lease = await store.acquire(holder, time.nowMs(), LEASE_MS, still);
    const other = lease === null ? await store.lease() : null;
    const isSame =
      other?.epoch === this.#other?.epoch && other?.expiresMs === this.#other?.expiresMs;
    this.#looks = other !== null && isSame ? this.#looks + 1 : 0;
    this.#other = other;
    return lease;
  }

  async #lead(term: Term): Promise<void> {
    const { store, time } = this.#options;
    const { signal } = this.#stop;
    this.#term = term;
    const prepare = await this.#options.prepare(term.fleet);
    await term.change({ actor: 'control', operation: null, make: prepare });
    this.#options.onTerm(term);
    const renewing = this.#renew(term);
    let lastMs = term.heard.sinceMs;
    while (!signal.aborted && !term.isOver) {
      const nudged = new AbortController();
      this.#nudge = () => nudged.abort();
      const startedMs = time.nowMs();
      const backMs = lastMs - startedMs;
      lastMs = startedMs;
      try {
        if (backMs > BACK_MS_MAX) {
          const message = `this clock was set back by ${backMs / 1000} s: all is heard anew`;
          throw new Refusal('not-leader', message);
        }
        await term.change({ actor: 'control', operation: null, make: reconcile });
        this.#options.onRound(Math.max(0, time.nowMs() - startedMs) / 1000);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        term.end(error);
      }
      if (!signal.aborted && !term.isOver) await time.sleep(ROUND_MS, nudged.signal);
    }
    term.end(new Refusal('not-leader', 'this control is being stopped'));
    await renewing;
    if (signal.aborted) await store.release(term.lease);
  }

  /** Keeps the lease while the term lasts. What is written is fenced whether or not this works. */
  async #renew(term: Term): Promise<void> {
    const { store, holder, time } = this.#options;
    let expiresMs = term.lease.expiresMs;
    while (!term.isOver) {
      await time.sleep(RENEW_MS, this.#stop.signal);
      if (term.isOver || this.#stop.signal.aborted) return;
      try {
        const lease = await store.acquire(holder, time.nowMs(), LEASE_MS);
        if (lease?.epoch !== term.lease.epoch) {
          return term.end(new Refusal('fenced', 'another control has led since'));
        }
        expiresMs = lease.expiresMs;
        term.renewed(lease);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        if (time.nowMs() >= expiresMs) return term.end(error);
      }
    }
  }
}
