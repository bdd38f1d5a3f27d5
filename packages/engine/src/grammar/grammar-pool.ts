import { invariant } from '@bridgekeeper/bridge/threads';
import type { CompiledGrammar } from './compiled.ts';

/** Grammars begin at multiples of this in the pool. */
const ALIGNMENT_WORDS = 64;

/** Whose grammar it is. A tenant's grammars are found again by its own requests alone. */
export interface GrammarOwner {
  readonly tenant: string;
  readonly grammar: CompiledGrammar;
}

export interface GrammarCounters {
  /** Grammars that crossed to the device. */
  uploads: number;
  /** Requests whose grammar was there already. */
  hits: number;
  evictions: number;
}

/** A grammar on the device. */
interface Entry {
  readonly key: string;
  readonly offset: number;
  readonly words: number;
  users: number;
  /** How many launches had been made when its last user left: they may still read it. */
  idleSince: number;
}

/**
 * Which words of the device's pool hold which grammar. What is in use stays; the rest is kept for
 * requests to come and given up, the least recently used first, when another needs its room. Pure:
 * it says where grammars go, and moves no bytes.
 */
export class GrammarPool {
  readonly words: number;
  readonly counters: GrammarCounters = { uploads: 0, hits: 0, evictions: 0 };
  /** The least recently used first. */
  readonly #entries = new Map<string, Entry>();

  constructor(words: number) {
    this.words = words;
  }

  /** Grammars in the pool. */
  get held(): number {
    return this.#entries.size;
  }

  get heldWords(): number {
    return [...this.#entries.values()].reduce((sum, { words }) => sum + words, 0);
  }

  /**
   * Whether `take` would find room. `settled` is how many launches have been taken in: grammars
   * that later ones may read are not given up.
   */
  fits(owner: GrammarOwner, settled: number): boolean {
    if (this.#entries.has(keyOf(owner))) return true;
    const kept = [...this.#entries.values()].filter((entry) => !isIdle(entry, settled));
    return this.#gap(kept, sizeOf(owner)) !== undefined;
  }

  /** Where the grammar is until `release`; `isNew`: its words must be brought there. */
  take(owner: GrammarOwner, settled: number): { readonly offset: number; readonly isNew: boolean } {
    const key = keyOf(owner);
    const known = this.#entries.get(key);
    if (known !== undefined) {
      known.users += 1;
      this.#entries.delete(key);
      this.#entries.set(key, known);
      this.counters.hits += 1;
      return { offset: known.offset, isNew: false };
    }
    const words = sizeOf(owner);
    let offset = this.#gap([...this.#entries.values()], words);
    while (offset === undefined) {
      const victim = [...this.#entries.values()].find((entry) => isIdle(entry, settled));
      invariant(victim !== undefined, 'a grammar is taken where it fits');
      this.#entries.delete(victim.key);
      this.counters.evictions += 1;
      offset = this.#gap([...this.#entries.values()], words);
    }
    this.#entries.set(key, { key, offset, words, users: 1, idleSince: 0 });
    this.counters.uploads += 1;
    return { offset, isNew: true };
  }

  /** One use ends; `launched` is how many launches have been made. */
  release(owner: GrammarOwner, launched: number): void {
    const entry = this.#entries.get(keyOf(owner));
    invariant(entry !== undefined && entry.users > 0, 'a grammar in use is in the pool');
    entry.users -= 1;
    entry.idleSince = launched;
  }

  /** The first gap of `words` between these entries. */
  #gap(entries: readonly Entry[], words: number): number | undefined {
    let end = 0;
    for (const entry of [...entries].sort((a, b) => a.offset - b.offset)) {
      if (entry.offset - end >= words) return end;
      end = entry.offset + entry.words;
    }
    return this.words - end >= words ? end : undefined;
  }
}

function isIdle({ users, idleSince }: Entry, settled: number): boolean {
  return users === 0 && idleSince <= settled;
}

function keyOf({ tenant, grammar }: GrammarOwner): string {
  return JSON.stringify([tenant, grammar.digest]);
}

/** Words that it takes of the pool. */
function sizeOf({ grammar }: GrammarOwner): number {
  return Math.ceil(grammar.words.length / ALIGNMENT_WORDS) * ALIGNMENT_WORDS;
}
