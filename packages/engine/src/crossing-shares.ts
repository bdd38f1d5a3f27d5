import { ACCOUNTS, type Ledger } from '@bridgekeeper/bridge';
import type { CrossingShare } from './request.ts';
import type { Sequence } from './scheduler/sequence.ts';

/**
 * Divides what crosses among the requests it crosses for. A step costs the same however many there
 * are: one account is kept of what every resident request got since the start, and a request's part
 * is what it grew by between its admission and its end.
 */
export class CrossingShares {
  readonly #ledger: Ledger;
  /** Two numbers an account, as `Ledger.readTotals` writes them. */
  readonly #perResident = numbers();
  readonly #seen = numbers();
  readonly #now = numbers();
  /** In order of arrival, which is that of admission. */
  readonly #waiting = new Set<Sequence>();
  /** What `#perResident` stood at when each was admitted. */
  readonly #residents = new Map<Sequence, Float64Array>();

  /** What crossed before, the weights above all, is nobody's. */
  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    ledger.readTotals(this.#seen);
  }

  arrived(sequence: Sequence): void {
    this.#waiting.add(sequence);
  }

  /** Call it after every step, before its events go out. */
  divide(): void {
    this.#admit();
    this.#ledger.readTotals(this.#now);
    const count = this.#residents.size;
    for (let i = 0; i < this.#now.length; i++) {
      if (count > 0) this.#perResident[i]! += (this.#now[i]! - this.#seen[i]!) / count;
      this.#seen[i] = this.#now[i]!;
    }
  }

  /** The part of a request that ends now. */
  take(sequence: Sequence): CrossingShare[] {
    this.#waiting.delete(sequence);
    const since = this.#residents.get(sequence);
    this.#residents.delete(sequence);
    if (since === undefined) return [];
    return ACCOUNTS.flatMap((account, at) => {
      const crossings = this.#perResident[2 * at]! - since[2 * at]!;
      const bytes = this.#perResident[2 * at + 1]! - since[2 * at + 1]!;
      return crossings > 0 ? [{ ...account, crossings, bytes }] : [];
    });
  }

  /** Those that got a row in the step that was just made. */
  #admit(): void {
    for (const sequence of this.#waiting) {
      if (sequence.admittedNs === undefined) return;
      this.#waiting.delete(sequence);
      this.#residents.set(sequence, this.#perResident.slice());
    }
  }
}

const numbers = () => new Float64Array(2 * ACCOUNTS.length);
