import { hash32 } from '@bridgekeeper/device';
import type { KvPart } from '../../kv/tiers/movement.ts';
import type { DraftedRow, RowResult, StepPlan } from '../plan.ts';
import type { Sequence } from '../sequence.ts';
import { LIMITS } from './play.ts';

const { pageTokens } = LIMITS;

/** What the KV of a token at a position is: everything up to it, and whose. */
const words = (tenant: string, tokens: readonly number[]) => {
  let word = tenant.charCodeAt(0);
  return tokens.map((token) => {
    word = hash32(word, token, 1);
    return word;
  });
};

interface Row {
  readonly sequence: Sequence;
  readonly epoch: number;
  readonly tokens: number[];
  generated: number;
  isActive: boolean;
}

/**
 * A device that computes what plans say, by the tables that they bring: each token writes its word
 * to its page of both kinds, and finds there the words of all that it looks back at. Where rows
 * keep a state, that is the word of the last token before.
 */
export class WordDevice {
  readonly #window: number | null;
  readonly #kinds: readonly ('context' | 'window')[];
  readonly #tables = { context: new Map<number, number[]>(), window: new Map<number, number[]>() };
  readonly #rows = new Map<number, Row>();
  readonly #states: number[] | null;
  /** By number of page, place in the page, or of place. */
  readonly contents: Readonly<Record<KvPart, (number | undefined)[][]>> = {
    context: [],
    window: [],
    state: [],
  };

  /** Without a window all layers see everything. */
  constructor(window: number | null, hasState = false) {
    this.#window = window;
    this.#kinds = window === null ? ['context'] : ['context', 'window'];
    this.#states = hasState ? [] : null;
  }

  run(plan: StepPlan): { rows: RowResult[]; drafted: DraftedRow[] } {
    for (const { row, place } of plan.restores ?? []) {
      this.#states![row] = this.contents.state[place]![0]!;
    }
    for (const { sequence: one, first, count, isWindow } of plan.pageWrites) {
      const tables = this.#tables[isWindow ? 'window' : 'context'];
      const pages = isWindow ? one.window.pages : one.pages;
      const table = tables.get(one.row) ?? [];
      for (let page = first; page < first + count; page++) table[page] = pages[page]!;
      tables.set(one.row, table);
    }
    const results: RowResult[] = [];
    for (const { sequence: one, epoch, start, length } of plan.prefill) {
      const tokens = [...one.tokens(0, start + length)];
      this.#rows.set(one.row, { sequence: one, epoch, tokens, generated: 0, isActive: false });
      const all = words(one.request.tenant, tokens);
      this.#write(one.row, all, start);
      this.#advance(one.row, all, start);
    }
    for (const { row, place } of plan.snapshots ?? []) {
      this.contents.state[place] = [this.#states![row]];
    }
    for (const { sequence: one, start, length } of plan.prefill) {
      this.#read(one.row, start, start + length);
    }
    for (const { sequence: one, last } of plan.prefill) {
      if (!last) continue;
      const row = this.#rows.get(one.row)!;
      row.isActive = true;
      row.generated = one.generated;
      results.push(this.#sample(one.row, row));
    }
    const drafted: DraftedRow[] = [];
    for (let step = 0; step < plan.steps; step++) {
      for (const { row } of plan.decode) this.#decode(row, plan.drafts, results, drafted);
    }
    return { rows: results, drafted };
  }

  #decode(at: number, drafts: number, results: RowResult[], drafted: DraftedRow[]): void {
    const row = this.#rows.get(at)!;
    if (!row.isActive) {
      if (drafts > 0) drafted.push({ row: at, epoch: row.epoch, drafts: 0, accepted: 0 });
      return;
    }
    const { length } = row.tokens;
    const left = row.sequence.request.sampling.maxTokens - row.generated;
    const had = Math.min(drafts, left - 1);
    const right = had === 0 ? 0 : (hash32(3, length, at) >>> 0) % (had + 1);
    const all = words(row.sequence.request.tenant, row.tokens);
    this.#advance(at, all, length - 1);
    // Drafts that are wrong leave words of their own behind.
    this.#write(at, [...all, ...new Array<number>(had).fill(-1)], length - 1);
    for (let i = 0; i < 1 + right; i++) {
      this.#write(at, words(row.sequence.request.tenant, row.tokens), length - 1);
      this.#read(at, row.tokens.length - 1, row.tokens.length);
      results.push(this.#sample(at, row));
    }
    if (drafts > 0) drafted.push({ row: at, epoch: row.epoch, drafts: had, accepted: right });
  }

  #sample(at: number, row: Row): RowResult {
    const token = hash32(7, row.tokens.length, row.tokens.at(-1)!) & 3;
    row.tokens.push(token);
    row.generated += 1;
    const isEnd = row.generated >= row.sequence.request.sampling.maxTokens;
    if (isEnd) row.isActive = false;
    return {
      row: at,
      epoch: row.epoch,
      token,
      finish: isEnd ? 'length' : undefined,
      logprobs: undefined,
    };
  }

  #write(row: number, all: readonly number[], from: number): void {
    for (const kind of this.#kinds) {
      for (let at = from; at < all.length; at++) {
        const page = this.#pageOf(kind, row, at);
        this.contents[kind][page] ??= [];
        this.contents[kind][page][at % pageTokens] = all[at]!;
      }
    }
  }

  /** Tokens [from, to) of the row look back. */
  #read(row: number, from: number, to: number): void {
    const { sequence: one, tokens } = this.#rows.get(row)!;
    const all = words(one.request.tenant, tokens);
    const seen = { context: 0, window: Math.max(0, from - (this.#window ?? 0) + 1) };
    for (const kind of this.#kinds) {
      for (let at = seen[kind]; at < to; at++) {
        const found = this.contents[kind][this.#pageOf(kind, row, at)]?.[at % pageTokens];
        if (found !== all[at]) throw new Error(`a ${kind} of row ${row} has not token ${at}`);
      }
    }
  }

  /** Computes the tokens from `from` on behind the state that the row is in. */
  #advance(row: number, all: readonly number[], from: number): void {
    if (this.#states === null) return;
    if (from > 0 && this.#states[row] !== all[from - 1]) {
      throw new Error(`row ${row} does not have the state before token ${from}`);
    }
    this.#states[row] = all.at(-1)!;
  }

  #pageOf(kind: 'context' | 'window', row: number, at: number): number {
    const page = this.#tables[kind].get(row)?.[Math.floor(at / pageTokens)];
    if (page === undefined) throw new Error(`row ${row} has no ${kind} page of token ${at}`);
    return page;
  }
}
