import { invariant } from '@bridgekeeper/bridge';
import type { Sequence } from './sequence.ts';

/** One owner's requests, and what it has had of the engine. */
interface Account {
  readonly owner: string;
  /** In the order in which they go. */
  readonly waiting: Sequence[];
  /** Rows it holds. */
  rows: number;
  /** Virtual time: tokens computed for it over its weight. */
  served: number;
}

/**
 * The requests that wait for a row, by owner. The owner that has had the least for its weight goes
 * next. What an owner has had is counted in tokens as they are computed, so that long answers count
 * while they are given. An owner that had nothing to do begins with what the least served of the
 * others has had: being idle earns nothing, and owes nothing away. Nor does an owner earn anything
 * while none of its requests waits that may have another row: once one does, it has had no less
 * than the owner that was given a row last. So rows that no other wanted are not owed for. While a
 * request waits whose owner has no row, each of the others is given rows until these have had as
 * much as that owner had since it was given one itself, and no longer.
 *
 * Of one owner's requests that one goes next which is due first: when its owner has been served as
 * many tokens since it came as it brings itself. So short ones pass long ones, and a long one lets
 * those pass that come before as many tokens as its own were computed, and none that come later.
 * Requests of equal length go first come, first served.
 */
export class FairQueue {
  readonly #accounts = new Map<string, Account>();
  #length = 0;
  /** What an owner had had when it was given a row, at the most: none that can go has had less. */
  #floor = 0;

  /** Requests that wait. */
  get length(): number {
    return this.#length;
  }

  /** Those that wait and are `wanted`, in order of arrival. */
  all(wanted: (sequence: Sequence) => boolean = () => true): Sequence[] {
    const accounts = [...this.#accounts.values()];
    const waiting = accounts.flatMap((account) => account.waiting.filter(wanted));
    return waiting.sort((a, b) => a.arrival - b.arrival);
  }

  /** Whether one that waits is `wanted`. */
  has(wanted: (sequence: Sequence) => boolean): boolean {
    if (this.#length === 0) return false;
    for (const { waiting } of this.#accounts.values()) if (waiting.some(wanted)) return true;
    return false;
  }

  /** Owners that have requests, waiting or in rows. */
  get owners(): number {
    return [...this.#accounts.values()].filter(isActive).length;
  }

  /** The request that goes next; undefined where none waits that may have another row. */
  get first(): Sequence | undefined {
    if (this.#length === 0) return undefined;
    let best: Account | undefined;
    for (const account of this.#accounts.values()) {
      if (!canGo(account)) continue;
      if (best === undefined || goesBefore(account, best)) best = account;
    }
    return best?.waiting[0];
  }

  /** A new request. */
  add(sequence: Sequence): void {
    const account = this.#open(sequence);
    const isFirst = account.waiting.length === 0;
    if (isFirst && account.rows < maxRowsOf(sequence)) this.#lift(account);
    sequence.due = account.served + sequence.length / weightOf(sequence);
    this.#insert(account, sequence);
  }

  /** It leaves the queue for a row. */
  take(sequence: Sequence): void {
    const account = this.#accountOf(sequence);
    this.#floor = Math.max(this.#floor, account.served);
    this.#withdraw(account, sequence);
    account.rows += 1;
  }

  /** It lost its row, and is back where it was. */
  giveBack(sequence: Sequence): void {
    const account = this.#accountOf(sequence);
    const couldGo = canGo(account);
    this.#insert(account, sequence);
    account.rows -= 1;
    if (!couldGo) this.#lift(account);
  }

  /** It has ended, in its row or without one. */
  leave(sequence: Sequence): void {
    const account = this.#accountOf(sequence);
    const couldGo = canGo(account);
    if (sequence.phase === 'waiting') this.#withdraw(account, sequence);
    else account.rows -= 1;
    if (!couldGo && canGo(account)) this.#lift(account);
    this.#forget();
  }

  /** Rows of the sequence's owner. */
  rowsOf(sequence: Sequence): number {
    return this.#accountOf(sequence).rows;
  }

  /** Counts the sequence's first `tokens` tokens as computed for its owner, each of them once. */
  charge(sequence: Sequence, tokens: number): void {
    if (tokens <= sequence.charged) return;
    this.#accountOf(sequence).served += (tokens - sequence.charged) / weightOf(sequence);
    sequence.charged = tokens;
  }

  /** Sorts those in rows: who is served first, and last who gives way first. */
  compare(a: Sequence, b: Sequence): number {
    const difference = this.#accountOf(a).served - this.#accountOf(b).served;
    return difference === 0 ? byDue(a, b) : difference;
  }

  #insert({ waiting }: Account, sequence: Sequence): void {
    const later = waiting.findIndex((other) => byDue(other, sequence) > 0);
    waiting.splice(later < 0 ? waiting.length : later, 0, sequence);
    this.#length += 1;
  }

  #withdraw({ waiting }: Account, sequence: Sequence): void {
    const at = waiting.indexOf(sequence);
    invariant(at >= 0, 'what leaves the queue was in it');
    waiting.splice(at, 1);
    this.#length -= 1;
  }

  #accountOf(sequence: Sequence): Account {
    const account = this.#accounts.get(ownerOf(sequence));
    invariant(account !== undefined, 'who has requests has an account');
    return account;
  }

  #open(sequence: Sequence): Account {
    const owner = ownerOf(sequence);
    const known = this.#accounts.get(owner);
    if (known !== undefined && isActive(known)) return known;
    const least = this.#leastServed();
    const account = known ?? { owner, waiting: [], rows: 0, served: least };
    account.served = Math.max(account.served, least);
    this.#accounts.set(owner, account);
    return account;
  }

  /** Some request of it can go from now on, and none could. */
  #lift(account: Account): void {
    account.served = Math.max(account.served, this.#floor);
  }

  #leastServed(): number {
    const active = [...this.#accounts.values()].filter(isActive);
    return active.length === 0 ? 0 : Math.min(...active.map(({ served }) => served));
  }

  /** Accounts of the idle that others have caught up with: they would begin again as they are. */
  #forget(): void {
    const accounts = [...this.#accounts.values()];
    if (accounts.every(isActive)) return;
    const isIdle = !accounts.some(isActive);
    const begins = isIdle ? Number.POSITIVE_INFINITY : Math.max(this.#leastServed(), this.#floor);
    if (isIdle) this.#floor = 0;
    for (const account of accounts) {
      if (!isActive(account) && account.served <= begins) this.#accounts.delete(account.owner);
    }
  }
}

function ownerOf({ request }: Sequence): string {
  return request.share?.owner ?? request.tenant;
}

function weightOf({ request }: Sequence): number {
  return request.share?.weight ?? 1;
}

function maxRowsOf({ request }: Sequence): number {
  return request.share?.maxRows ?? Number.POSITIVE_INFINITY;
}

function byDue(a: Sequence, b: Sequence): number {
  return a.due - b.due || a.arrival - b.arrival;
}

function isActive({ waiting, rows }: Account): boolean {
  return waiting.length > 0 || rows > 0;
}

/** Whether one of its requests may have another row. */
function canGo({ waiting, rows }: Account): boolean {
  const head = waiting[0];
  return head !== undefined && rows < maxRowsOf(head);
}

function goesBefore(a: Account, b: Account): boolean {
  if (a.served !== b.served) return a.served < b.served;
  if (a.rows !== b.rows) return a.rows < b.rows;
  return a.waiting[0]!.arrival < b.waiting[0]!.arrival;
}
