import {
  CONTROL,
  FINISH,
  NO_DRAFTS,
  NO_TOKEN,
  RESULT,
  RESULT_HEADER,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  ROW,
  ROW_WORDS,
  resultSlotWords,
} from '../../row-layout.ts';
import {
  type AdvanceArrays,
  type AdvanceShape,
  advanceRow,
  type BeginDecodeArrays,
  isRow,
} from './rows.ts';

export interface DraftArrays extends BeginDecodeArrays {
  readonly history: Int32Array;
}

export interface DraftShape {
  readonly count: number;
  readonly linesPerRow: number;
  readonly historyTokens: number;
  readonly lookupMin: number;
  readonly lookupMax: number;
}

/** What is drafted for a row. */
export type DraftsOf = (arrays: DraftArrays, shape: DraftShape, row: number) => readonly number[];

/** The lines of `count` rows with their drafts, as OpArgs' `draft` says. */
export function draft(arrays: DraftArrays, shape: DraftShape, draftsOf: DraftsOf = lookedUp): void {
  const { rows, decodeRows, tokens, tokenRows, positions } = arrays;
  const { count, linesPerRow } = shape;
  tokenRows.fill(-1, 0, count * linesPerRow);
  tokens.fill(0, 0, count * linesPerRow);
  positions.fill(0, 0, count * linesPerRow);
  for (let i = 0; i < count; i++) {
    const row = decodeRows[i]!;
    const state = row * ROW_WORDS;
    if (!isRow(rows, row) || rows[state + ROW.ACTIVE] !== 1) continue;
    const position = rows[state + ROW.POSITION]!;
    const first = i * linesPerRow;
    const drafts = draftsOf(arrays, shape, row);
    tokens[first] = rows[state + ROW.TOKEN]!;
    tokens.set(drafts, first + 1);
    for (let j = 0; j <= drafts.length; j++) {
      tokenRows[first + j] = row;
      positions[first + j] = position + j;
    }
  }
}

function lookedUp({ rows, history }: DraftArrays, shape: DraftShape, row: number): number[] {
  const { linesPerRow, historyTokens, lookupMin, lookupMax } = shape;
  const state = row * ROW_WORDS;
  const last = rows[state + ROW.POSITION]!;
  if ((rows[state + ROW.FLAGS]! & NO_DRAFTS) !== 0) return [];
  if (last < 0 || last >= historyTokens) return [];
  const own = history.subarray(row * historyTokens, (row + 1) * historyTokens);
  let longest = 0;
  let end = -1;
  for (let e = last - 1; e >= 0 && longest < lookupMax; e--) {
    let length = 0;
    while (length < lookupMax && length <= e && own[e - length] === own[last - length]) length += 1;
    if (length <= longest) continue;
    longest = length;
    end = e;
  }
  if (longest < lookupMin) return [];
  const room = Math.min(rows[state + ROW.REMAINING]! - 1, historyTokens - 1 - last);
  const count = Math.max(0, Math.min(linesPerRow - 1, room));
  return Array.from({ length: count }, (_, j) => own[end + 1 + (j % (last - end))]!);
}

export interface AcceptArrays extends AdvanceArrays {
  readonly tokens: Int32Array;
  readonly history: Int32Array;
}

export interface AcceptShape extends AdvanceShape {
  readonly linesPerRow: number;
  readonly historyTokens: number;
}

/** Takes in what was sampled as far as drafts were right, as OpArgs' `accept` says. */
export function accept(arrays: AcceptArrays, shape: AcceptShape): void {
  const { rows, control, results, lineRows, sampled, tokens } = arrays;
  const { count, linesPerRow, ringSlots, ringLines } = shape;
  const step = control[CONTROL.STEP]!;
  const slot = ((step >>> 0) % ringSlots) * resultSlotWords(ringLines);
  const lines = Math.min(count, ringLines);
  results[slot + RESULT_HEADER.STEP] = step;
  results[slot + RESULT_HEADER.LINES] = lines;
  let isOpen = false;
  for (let i = 0; i < lines; i++) {
    const isFirst = i % linesPerRow === 0;
    const row = lineRows[i]!;
    const at = slot + RESULT_HEADER_WORDS + i * RESULT_WORDS;
    if (!isRow(rows, row) || (!isFirst && row !== lineRows[i - (i % linesPerRow)])) {
      results[at + RESULT.ROW] = -1;
      isOpen = false;
      continue;
    }
    const isTaken: boolean = isFirst || (isOpen && tokens[i] === sampled[i - 1]);
    const token = isTaken ? sampled[i]! : NO_TOKEN;
    const finish: number = isTaken ? take(arrays, shape, row, token) : FINISH.REJECTED;
    if (!isTaken) lineRows[i] = -1;
    isOpen = finish === FINISH.NONE;
    results[at + RESULT.ROW] = row;
    results[at + RESULT.EPOCH] = rows[row * ROW_WORDS + ROW.EPOCH]!;
    results[at + RESULT.TOKEN] = token;
    results[at + RESULT.FINISH] = finish;
  }
  control[CONTROL.STEP] = step + 1;
}

function take(arrays: AcceptArrays, shape: AcceptShape, row: number, token: number): number {
  const { rows, history } = arrays;
  const { vocab, historyTokens } = shape;
  const finish = advanceRow(arrays, vocab, row, token);
  const position = rows[row * ROW_WORDS + ROW.POSITION]!;
  if (position >= 0 && position < historyTokens) history[row * historyTokens + position] = token;
  return finish;
}
