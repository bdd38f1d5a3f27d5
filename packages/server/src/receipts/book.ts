import {
  type ChainHead,
  type ReceiptFacts,
  type ReceiptSigner,
  sealReceipt,
} from '@bridgekeeper/attest';
import type { ReceiptRow, ReceiptStore, Retention } from './store.ts';

/** An answer that was sent and has no receipt yet. */
export interface Draft {
  readonly facts: ReceiptFacts;
  readonly tenant: string;
}

export interface BookParts {
  readonly store: ReceiptStore;
  readonly signer: ReceiptSigner;
  readonly retention: Retention;
}

const BATCH_MAX = 256;

/** What a write came to. */
export interface Written {
  readonly written: number;
  /** Why the rest still waits; null: nothing does. */
  readonly trouble: string | null;
}

/**
 * Turns drafts into receipts at the end of the chain. A receipt is part of the chain once it is on
 * the disk: what could not be written leaves no gap, and waits for the next attempt.
 */
export class ReceiptBook {
  readonly #parts: BookParts;
  #head: ChainHead;
  #waiting: Draft[] = [];

  constructor(parts: BookParts) {
    this.#parts = parts;
    this.#head = parts.store.head();
  }

  get head(): ChainHead {
    return this.#head;
  }

  /** How many wait is for the caller to bound. */
  add(draft: Draft): void {
    this.#waiting.push(draft);
  }

  /** Seals and writes what waits, many at once. Never throws. */
  async write(): Promise<Written> {
    const { store, retention } = this.#parts;
    let written = 0;
    let trouble: string | null = null;
    while (this.#waiting.length > 0 && trouble === null) {
      const batch = this.#waiting.slice(0, BATCH_MAX);
      const rows = await this.#seal(batch);
      const last = rows.at(-1)!.sealed;
      try {
        store.append(rows);
        this.#head = last.head;
        this.#waiting = this.#waiting.slice(batch.length);
        written += batch.length;
        store.prune(retention, last.signed.receipt.createdAt);
      } catch (error) {
        trouble = (error as Error).message;
      }
    }
    return { written, trouble };
  }

  async #seal(batch: readonly Draft[]): Promise<ReceiptRow[]> {
    const rows: ReceiptRow[] = [];
    let head = this.#head;
    for (const { facts, tenant } of batch) {
      const sealed = await sealReceipt(facts, head, this.#parts.signer);
      rows.push({ sealed, tenant });
      head = sealed.head;
    }
    return rows;
  }
}
