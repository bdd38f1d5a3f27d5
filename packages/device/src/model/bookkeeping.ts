import { targetList } from '../command-targets.ts';
import { advance, applyCommand, beginDecode, isRow, isStop } from '../cpu/kernels/rows.ts';
import { accept, type DraftsOf, draft } from '../cpu/kernels/speculation.ts';
import type { OpArgs, OpName } from '../ops.ts';
import { checkPagedParts } from '../paged-parts.ts';
import { hash32 } from '../random.ts';
import {
  CONTROL,
  LOGPROB,
  LOGPROB_WORDS,
  MAX_TOP_LOGPROBS,
  NO_DRAFTS,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
} from '../row-layout.ts';
import type { Chains } from './chains.ts';
import { floatsOf, wordsOf } from './memory.ts';

type Bookkeeper<Name extends OpName> = (args: OpArgs[Name]) => () => void;

/**
 * The operations that run for real on a modelled GPU: what decides who decodes, where, and until
 * when. Tokens are made up and every token is equally likely.
 */
const BOOKKEEPERS: { readonly [Name in OpName]?: Bookkeeper<Name> } = {
  'apply-command': (args) => {
    const targets = targetList(args).map(wordsOf);
    const command = wordsOf(args.command);
    const counts = wordsOf(args.counts);
    const { vocab, maxRecords } = args;
    return () => applyCommand(command, targets, counts, vocab, maxRecords);
  },

  'gather-pages': ({ out, ...parts }) => {
    checkPagedParts(parts, out);
    return () => undefined;
  },

  'scatter-pages': ({ input, ...parts }) => {
    checkPagedParts(parts, input);
    return () => undefined;
  },

  'begin-decode': (args) => {
    const arrays = {
      rows: wordsOf(args.rows),
      decodeRows: wordsOf(args.decodeRows),
      tokens: wordsOf(args.tokens),
      tokenRows: wordsOf(args.tokenRows),
      positions: wordsOf(args.positions),
    };
    return () => beginDecode(arrays, args.count);
  },

  draft: (args) => drafting(args),

  sample: (args) => {
    const rows = wordsOf(args.rows);
    const control = wordsOf(args.control);
    const lineRows = wordsOf(args.lineRows);
    const sampled = wordsOf(args.sampled);
    const logprobs = args.logprobs;
    const { count, linesPerRow, vocab, ringSlots, ringLines } = args;
    return () => {
      for (let i = 0; i < count; i++) {
        const row = lineRows[i]!;
        if (!isRow(rows, row)) continue;
        const base = row * ROW_WORDS;
        const generated = rows[base + ROW.GENERATED]! + (i % linesPerRow);
        const token = syntheticToken(rows, base, generated, vocab);
        sampled[i] = token;
        if ((rows[base + ROW.FLAGS]! & ROW_FLAG.LOGPROBS) === 0) continue;
        const line = ((control[CONTROL.STEP]! >>> 0) % ringSlots) * ringLines + i;
        writeUniformLogprobs(wordsOf(logprobs), floatsOf(logprobs), line, token, vocab);
      }
    };
  },

  advance: (args) => {
    const arrays = advanceArrays(args);
    return () => advance(arrays, args);
  },

  accept: (args) => {
    const tokens = wordsOf(args.tokens);
    const arrays = { ...advanceArrays(args), tokens, history: wordsOf(args.history) };
    return () => accept(arrays, args);
  },

  'prompt-logprobs': ({ targets, out, count, vocab }) => {
    return () => {
      const tokens = wordsOf(targets);
      const words = wordsOf(out);
      const floats = floatsOf(out);
      for (let i = 0; i < count; i++) writeUniformLogprobs(words, floats, i, tokens[i]!, vocab);
    };
  },
};

function drafting(args: OpArgs['draft'], draftsOf?: DraftsOf): () => void {
  const arrays = {
    rows: wordsOf(args.rows),
    decodeRows: wordsOf(args.decodeRows),
    history: wordsOf(args.history),
    tokens: wordsOf(args.tokens),
    tokenRows: wordsOf(args.tokenRows),
    positions: wordsOf(args.positions),
  };
  return () => draft(arrays, args, draftsOf);
}

/** How often what is drafted is right, where texts are made up and repeat nothing. */
export interface MadeUpDrafts {
  /** Of each draft, when all before it were right: 0 to 1. */
  readonly chance: number;
  readonly vocabulary: number;
}

/** Drafts that are what will be sampled, or are not, as `chance` and the row's seed have it. */
function madeUp({ chance, vocabulary }: MadeUpDrafts): DraftsOf {
  return ({ rows }, { linesPerRow }, row) => {
    const base = row * ROW_WORDS;
    if ((rows[base + ROW.FLAGS]! & NO_DRAFTS) !== 0) return [];
    const drafts: number[] = [];
    const count = Math.min(linesPerRow, rows[base + ROW.REMAINING]!) - 1;
    for (let j = 0; j < count; j++) {
      const generated = rows[base + ROW.GENERATED]! + j;
      const token = syntheticToken(rows, base, generated, vocabulary);
      const draw = hash32(rows[base + ROW.SEED_LO]!, ~rows[base + ROW.SEED_HI]!, generated) >>> 0;
      drafts.push(draw < chance * 2 ** 32 ? token : (token + 1) % vocabulary);
    }
    return drafts;
  };
}

function advanceArrays(args: OpArgs['advance'] | OpArgs['accept']) {
  return {
    rows: wordsOf(args.rows),
    control: wordsOf(args.control),
    lineRows: wordsOf(args.lineRows),
    sampled: wordsOf(args.sampled),
    counts: wordsOf(args.counts),
    results: wordsOf(args.results),
    grammar: null,
  };
}

/**
 * What runs for real when this operation does, or null where it only takes time. `chains`: KV has
 * contents, on which tokens depend; null: it has none. `drafts`: null: they are looked up.
 */
export function bookkeepingOf<Name extends OpName>(
  name: Name,
  args: OpArgs[Name],
  chains: Chains | null,
  drafts: MadeUpDrafts | null,
): (() => void) | null {
  if (name === 'draft' && drafts !== null) {
    return drafting(args as OpArgs['draft'], madeUp(drafts));
  }
  return chains?.bookkeepingOf(name, args) ?? BOOKKEEPERS[name]?.(args) ?? null;
}

/** A row's token after so many: repeatable, and never one that ends the row. */
function syntheticToken(rows: Int32Array, base: number, generated: number, vocab: number): number {
  const seedLo = rows[base + ROW.SEED_LO]!;
  const seedHi = rows[base + ROW.SEED_HI]!;
  let token = (hash32(seedLo, seedHi, generated) >>> 0) % vocab;
  for (let tries = 0; tries < vocab && isStop(rows, base, token); tries++) {
    token = (token + 1) % vocab;
  }
  return token;
}

/** A line of logprobs as if all tokens of the vocabulary were alike. */
function writeUniformLogprobs(
  words: Int32Array,
  floats: Float32Array,
  line: number,
  token: number,
  vocab: number,
): void {
  const base = line * LOGPROB_WORDS;
  const logprob = -Math.log(vocab);
  floats[base + LOGPROB.LOGPROB] = logprob;
  words[base + LOGPROB.RANK] = 1;
  for (let k = 0; k < MAX_TOP_LOGPROBS; k++) {
    words[base + LOGPROB.IDS + k] = (token + k) % vocab;
    floats[base + LOGPROB.LOGPROBS + k] = logprob;
  }
}
