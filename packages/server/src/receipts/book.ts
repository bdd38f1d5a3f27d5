import {
  type ChainHead,
  type ReceiptFacts,
  type ReceiptSigner,
  sealHead,
  sealReceipt,
} from '@bridgekeeper/attest';
import type { HeadFile } from './head-file.ts';
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
  /** Where the chain's signed end is kept; null: with a store in memory. */
  readonly heads: Pick<HeadFile, 'write'> | null;
}

const BATCH_MAX = 256;

/** What a write came to. */
export interface Written {
  readonly written: number;
  /** Why the rest still waits, or would; null: all is well. */
  readonly trouble: string | null;
}

/**
 * Turns drafts into receipts at the end of the chain. A receipt is part of the chain once it is on
 * the disk: what could not be written leaves no gap, and waits for the next attempt.
 */
export class ReceiptBook {
  readonly #parts: BookParts;
  #head: ChainHead;
  /** The one whose signed form is written. */
  #signedHead: ChainHead | null = null;
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

  /** Seals and writes what waits, many at once, and looks whether it could. Never throws. */
  async write(): Promise<Written> {
    const { store, retention } = this.#parts;
    let written = 0;
    try {
      store.check();
      await this.#writeHead();
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.slice(0, BATCH_MAX);
        const rows = await this.#seal(batch);
        store.append(rows);
        this.#head = rows.at(-1)!.sealed.head;
        this.#waiting = this.#waiting.slice(batch.length);
        written += batch.length;
        // Before the next batch: the head is never further behind than this one.
        await this.#writeHead();
        store.prune(retention);
      }
      return { written, trouble: null };
    } catch (error) {
      return { written, trouble: (error as Error).message };
    }
  }

  /** Counts that many seconds of running, and deletes what has become too old. Never throws. */
  async age(seconds: number): Promise<Written> {
    const { store, retention } = this.#parts;
    const result = await this.write();
    if (result.trouble !== null) return result;
    try {
      store.age(seconds);
      store.prune(retention);
      return result;
    } catch (error) {
      return { ...result, trouble: (error as Error).message };
    }
  }

  async #writeHead(): Promise<void> {
    if (this.#signedHead === this.#head) return;
    const head = this.#head;
    this.#parts.heads?.write(await sealHead(head, this.#parts.signer));
    this.#signedHead = head;
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
