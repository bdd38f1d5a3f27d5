/**
 * The operations on device-resident row state, over plain arrays: the cpu device runs them on its
 * memory and the model device on its own. Row state may hold anything: what lies outside an array
 * is skipped, never written.
 */
import { GRAMMAR_ROW_WORDS } from '../../grammar-layout.ts';
import { GrammarWalk } from '../../grammar-step.ts';
import {
  COMMAND_HEADER,
  COMMAND_HEADER_WORDS,
  CONTROL,
  COUNT_PROMPT,
  FINISH,
  MAX_STOP_IDS,
  NO_TOKEN,
  RECORD,
  RECORD_WORDS,
  RESULT,
  RESULT_HEADER,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
  resultSlotWords,
  TARGET,
} from '../../row-layout.ts';
import type { Vocabulary } from '../../vocabulary.ts';

/** Applies a packed command. `targets` are the arrays of CommandTargets in the order of TARGET. */
export function applyCommand(
  command: Int32Array,
  targets: readonly Int32Array[],
  counts: Int32Array,
  vocab: number,
  maxRecords: number,
): void {
  const records = Math.min(command[COMMAND_HEADER.RECORDS] ?? 0, maxRecords);
  for (let n = 0; n < records; n++) {
    const at = COMMAND_HEADER_WORDS + n * RECORD_WORDS;
    const offset = command[at + RECORD.OFFSET]!;
    const length = command[at + RECORD.LENGTH]!;
    const payload = command[at + RECORD.PAYLOAD]!;
    if (offset < 0 || length < 0 || payload < 0 || payload + length > command.length) continue;
    const words = command.subarray(payload, payload + length);
    const target = command[at + RECORD.TARGET]!;
    if (target === TARGET.COUNTS) {
      restartCounts(words, counts, offset, vocab);
    } else {
      const array = targets[target];
      if (array !== undefined && offset + length <= array.length) array.set(words, offset);
    }
  }
}

/** counts[row] from [prompt length, prompt ids.., output ids..]. */
function restartCounts(words: Int32Array, counts: Int32Array, row: number, vocab: number): void {
  const start = row * vocab;
  if (start + vocab > counts.length || words.length === 0) return;
  counts.fill(0, start, start + vocab);
  const promptEnd = 1 + words[0]!;
  for (let i = 1; i < words.length; i++) {
    const token = words[i]!;
    if (token < 0 || token >= vocab) continue;
    if (i < promptEnd) counts[start + token]! |= COUNT_PROMPT;
    else counts[start + token]! += 1;
  }
}

export interface BeginDecodeArrays {
  readonly rows: Int32Array;
  readonly decodeRows: Int32Array;
  readonly tokens: Int32Array;
  readonly tokenRows: Int32Array;
  readonly positions: Int32Array;
}

/**
 * Lines [0, count) of a decode batch: token, row and position of each active row, row -1 for the
 * others.
 */
export function beginDecode(arrays: BeginDecodeArrays, count: number): void {
  const { rows, decodeRows, tokens, tokenRows, positions } = arrays;
  for (let i = 0; i < count; i++) {
    const row = decodeRows[i]!;
    const state = row * ROW_WORDS;
    const isActive = isRow(rows, row) && rows[state + ROW.ACTIVE] === 1;
    tokenRows[i] = isActive ? row : -1;
    tokens[i] = isActive ? rows[state + ROW.TOKEN]! : 0;
    positions[i] = isActive ? rows[state + ROW.POSITION]! : 0;
  }
}

/** Whether `rows` has a row `row`. */
export function isRow(rows: Int32Array, row: number): boolean {
  return row >= 0 && (row + 1) * ROW_WORDS <= rows.length;
}

/** The ids that end the row whose state starts at `state`. */
export function stopIds(rows: Int32Array, state: number): Int32Array {
  const stops = Math.min(Math.max(rows[state + ROW.STOP_COUNT]!, 0), MAX_STOP_IDS);
  return rows.subarray(state + ROW.STOP_IDS, state + ROW.STOP_IDS + stops);
}

/** Whether `token` is one of the stop ids of the row whose state starts at `state`. */
export function isStop(rows: Int32Array, state: number, token: number): boolean {
  const first = state + ROW.STOP_IDS;
  const end = first + Math.min(rows[state + ROW.STOP_COUNT]!, MAX_STOP_IDS);
  for (let i = first; i < end; i++) {
    if (rows[i] === token) return true;
  }
  return false;
}

/** What `grammar-mask` and `advance` step through, as arrays. */
export interface GrammarArrays {
  readonly grammarRows: Int32Array;
  readonly pool: Uint32Array;
  readonly vocabulary: Vocabulary;
}

/** The words of a row's place in its grammar; null where its tokens are free. */
export function grammarRowOf(
  { grammarRows }: GrammarArrays,
  rows: Int32Array,
  row: number,
): Int32Array | null {
  const flags = rows[row * ROW_WORDS + ROW.FLAGS]!;
  if ((flags & ROW_FLAG.GRAMMAR) === 0 || (row + 1) * GRAMMAR_ROW_WORDS > grammarRows.length) {
    return null;
  }
  return grammarRows.subarray(row * GRAMMAR_ROW_WORDS, (row + 1) * GRAMMAR_ROW_WORDS);
}

export interface AdvanceArrays {
  readonly rows: Int32Array;
  readonly control: Int32Array;
  readonly counts: Int32Array;
  readonly results: Int32Array;
  readonly lineRows: Int32Array;
  readonly sampled: Int32Array;
  /** null: tokens are made up, and obey no grammar. */
  readonly grammar: GrammarArrays | null;
}

export interface AdvanceShape {
  readonly count: number;
  readonly vocab: number;
  readonly ringSlots: number;
  readonly ringLines: number;
}

/**
 * Takes each line's sampled token into its row, writes the ring's slot of this step, and counts the
 * step.
 */
export function advance(arrays: AdvanceArrays, shape: AdvanceShape): void {
  const { rows, control, results, lineRows, sampled } = arrays;
  const { count, ringSlots, ringLines } = shape;
  const step = control[CONTROL.STEP]!;
  // The step counter wraps after 2^31 steps.
  const slot = ((step >>> 0) % ringSlots) * resultSlotWords(ringLines);
  const lines = Math.min(count, ringLines);
  results[slot + RESULT_HEADER.STEP] = step;
  results[slot + RESULT_HEADER.LINES] = lines;
  for (let i = 0; i < lines; i++) {
    const row = lineRows[i]!;
    const result = slot + RESULT_HEADER_WORDS + i * RESULT_WORDS;
    if (!isRow(rows, row)) {
      results[result + RESULT.ROW] = -1;
      continue;
    }
    const finish = advanceRow(arrays, shape.vocab, row, sampled[i]!);
    results[result + RESULT.ROW] = row;
    results[result + RESULT.EPOCH] = rows[row * ROW_WORDS + ROW.EPOCH]!;
    results[result + RESULT.TOKEN] = sampled[i]!;
    results[result + RESULT.FINISH] = finish;
  }
  control[CONTROL.STEP] = step + 1;
}

/** Moves a row on by the token just sampled and returns how it ended. */
export function advanceRow(
  arrays: Omit<AdvanceArrays, 'lineRows' | 'sampled'>,
  vocab: number,
  row: number,
  token: number,
): number {
  const { rows, counts } = arrays;
  const state = row * ROW_WORDS;
  rows[state + ROW.TOKEN] = token;
  rows[state + ROW.POSITION]! += 1;
  rows[state + ROW.GENERATED]! += 1;
  rows[state + ROW.REMAINING]! -= 1;
  const isCounted = (rows[state + ROW.FLAGS]! & ROW_FLAG.PENALTIES) !== 0;
  if (isCounted && token >= 0 && token < vocab) counts[row * vocab + token]! += 1;
  let finish: number = FINISH.NONE;
  if (token === NO_TOKEN) finish = FINISH.ERROR;
  else if (isStop(rows, state, token)) finish = FINISH.STOP;
  else finish = advanceGrammar(arrays, row, token);
  if (finish === FINISH.NONE && rows[state + ROW.REMAINING]! <= 0) finish = FINISH.LENGTH;
  rows[state + ROW.ACTIVE] = finish === FINISH.NONE ? 1 : 0;
  return finish;
}

/** Moves the row's place in its grammar on, if it has one. */
function advanceGrammar(
  { rows, grammar }: Pick<AdvanceArrays, 'rows' | 'grammar'>,
  row: number,
  token: number,
): number {
  const place = grammar === null ? null : grammarRowOf(grammar, rows, row);
  if (grammar === null || place === null) return FINISH.NONE;
  const walk = new GrammarWalk(grammar.pool, grammar.vocabulary);
  const moved = walk.begin(place) ? walk.advance(token) : 'refused';
  if (moved === 'refused') return FINISH.ERROR;
  return moved === 'complete' ? FINISH.STOP : FINISH.NONE;
}
