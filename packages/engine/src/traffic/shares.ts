import { ACCOUNTS, type Direction, type Ledger, type Purpose } from '@bridgekeeper/bridge';

/**
 * Most crossings serve many requests at once. Each is divided equally among the requests that held
 * a row while it was made, so the shares of all requests add up to what crossed while any did. A
 * grammar crosses for one request, whose share it is whole.
 */
export interface CrossingShare {
  readonly purpose: Purpose;
  readonly direction: Direction;
  /** With fractions, both. */
  readonly crossings: number;
  readonly bytes: number;
}

/** A request, as far as sharing goes: whether it has been admitted to the device, and when. */
export interface Resident {
  readonly admittedNs: number | undefined;
  /** Crossings of its own grammar, and their bytes. */
  readonly grammarUploads?: { readonly crossings: number; readonly bytes: number };
}

/**
 * Divides what crosses among the requests it crosses for. A step costs the same however many there
 * are: one account is kept of what every resident request got since the start, and a request's part
 * is what it grew by between its admission and its end.
 */
export class CrossingShares<R extends Resident> {
  readonly #ledger: Ledger;
  /** Two numbers an account, as `Ledger.readTotals` writes them. */
  readonly #perResident = numbers();
  readonly #seen = numbers();
  readonly #now = numbers();
  /** Crossings that were divided. */
  #divided: number;
  readonly #waiting = new Set<R>();
  /** What `#perResident` stood at when each was admitted. */
  readonly #residents = new Map<R, Float64Array>();

  /** What crossed before, the weights above all, belongs to no request. */
  constructor(ledger: Ledger) {
    this.#ledger = ledger;
    ledger.readTotals(this.#seen);
    this.#divided = ledger.recorded;
  }

  arrived(request: R): void {
    this.#waiting.add(request);
  }

  /** Call it after every step, before its events go out. */
  divide(): void {
    if (this.#waiting.size > 0) this.#admit();
    const { recorded } = this.#ledger;
    if (recorded === this.#divided) return;
    this.#divided = recorded;
    this.#ledger.readTotals(this.#now);
    const count = this.#residents.size;
    for (let i = 0; i < this.#now.length; i++) {
      if (count > 0) this.#perResident[i]! += (this.#now[i]! - this.#seen[i]!) / count;
      this.#seen[i] = this.#now[i]!;
    }
  }

  /** The part of a request that ends now. */
  take(request: R): CrossingShare[] {
    this.#waiting.delete(request);
    const since = this.#residents.get(request);
    this.#residents.delete(request);
    if (since === undefined) return [];
    const shares: CrossingShare[] = [];
    for (const [at, { purpose, direction }] of ACCOUNTS.entries()) {
      if (purpose === 'grammar') {
        const { crossings = 0, bytes = 0 } = request.grammarUploads ?? {};
        if (direction === 'h2d' && crossings > 0) {
          shares.push({ purpose, direction, crossings, bytes });
        }
        continue;
      }
      const crossings = this.#perResident[2 * at]! - since[2 * at]!;
      const bytes = this.#perResident[2 * at + 1]! - since[2 * at + 1]!;
      if (crossings > 0) shares.push({ purpose, direction, crossings, bytes });
    }
    return shares;
  }

  /** Those that got a row in the step that was just made. */
  #admit(): void {
    for (const request of this.#waiting) {
      if (request.admittedNs === undefined) continue;
      this.#waiting.delete(request);
      this.#residents.set(request, this.#perResident.slice());
    }
  }
}

const numbers = () => new Float64Array(2 * ACCOUNTS.length);
