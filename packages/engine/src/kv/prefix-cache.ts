import { invariant } from '@bridgekeeper/bridge';
import { pageKey, rootKey } from './page-key.ts';
import type { PagePool } from './page-pool.ts';

/** A sequence as far as its pages go. */
export interface PagedSequence {
  readonly request: { readonly tenant: string };
  readonly length: number;
  /** A view of tokens [from, to). */
  tokens(from: number, to: number): Uint32Array;
  /** In the order of its tokens; empty while it waits. */
  readonly pages: number[];
  /** Keys of its full pages, as far as they were needed. */
  readonly pageKeys: string[];
  /** Leading pages that can be found by their keys. */
  published: number;
}

/** Leading pages of a sequence that exist already. */
export interface PrefixMatch {
  readonly pages: number;
  /** How many of them are held by no sequence, so that holding them takes available pages. */
  readonly fromCache: number;
}

const NO_MATCH: PrefixMatch = { pages: 0, fromCache: 0 };

/**
 * Finds pages that hold what a sequence begins with, of the same tenant, and makes a sequence's own
 * pages findable. Pages stay until the pool needs them (`PagePool.take`).
 */
export class PrefixCache {
  readonly #pool: PagePool;
  readonly #pageTokens: number;
  readonly #isEnabled: boolean;

  constructor(pool: PagePool, options: { readonly pageTokens: number; readonly enabled: boolean }) {
    this.#pool = pool;
    this.#pageTokens = options.pageTokens;
    this.#isEnabled = options.enabled;
  }

  /** What exists of a waiting sequence. Its last token never counts: its logits are wanted. */
  match(sequence: PagedSequence): PrefixMatch {
    if (!this.#isEnabled) return NO_MATCH;
    const most = Math.floor((sequence.length - 1) / this.#pageTokens);
    let fromCache = 0;
    for (let index = 0; index < most; index++) {
      const where = this.#pool.peek(this.#keyOf(sequence, index));
      if (where === undefined) return { pages: index, fromCache };
      if (where === 'cached') fromCache += 1;
    }
    return { pages: most, fromCache };
  }

  /** Makes the sequence a holder of the pages that were matched a moment ago. */
  claim(sequence: PagedSequence, { pages }: PrefixMatch): void {
    for (let index = 0; index < pages; index++) {
      const page = this.#pool.find(sequence.pageKeys[index]!);
      invariant(page !== undefined, 'a matched page stays until it is claimed');
      sequence.pages.push(page);
    }
    sequence.published = pages;
  }

  /**
   * Makes the full pages of the sequence's first `computed` tokens findable: their KV is on the
   * device, or under way in work that is queued there.
   */
  publish(sequence: PagedSequence, computed: number): void {
    if (!this.#isEnabled) return;
    const full = Math.floor(Math.min(computed, sequence.length) / this.#pageTokens);
    while (sequence.published < full) {
      const index = sequence.published;
      this.#pool.publish(sequence.pages[index]!, this.#keyOf(sequence, index));
      sequence.published += 1;
    }
  }

  #keyOf(sequence: PagedSequence, index: number): string {
    const { pageKeys } = sequence;
    for (let next = pageKeys.length; next <= index; next++) {
      const parent = pageKeys[next - 1] ?? rootKey(sequence.request.tenant);
      const from = next * this.#pageTokens;
      pageKeys.push(pageKey(parent, sequence.tokens(from, from + this.#pageTokens)));
    }
    return pageKeys[index]!;
  }
}
