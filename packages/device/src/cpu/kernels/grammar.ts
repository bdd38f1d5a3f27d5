import { maskWords, TOKEN_GROUPS_SHIFT } from '../../grammar-layout.ts';
import { GrammarWalk } from '../../grammar-step.ts';
import { ROW_WORDS } from '../../row-layout.ts';
import { type GrammarArrays, grammarRowOf, isRow, stopIds } from './rows.ts';
import { rangeOf, type Share } from './share.ts';

export interface MaskArrays extends GrammarArrays {
  readonly rows: Int32Array;
  readonly lineRows: Int32Array;
  readonly masks: Int32Array;
}

export interface MaskShape {
  readonly count: number;
  readonly vocab: number;
}

/** A share of every line's mask, as OpArgs' `grammar-mask` says. */
export function maskLines(arrays: MaskArrays, { count, vocab }: MaskShape, share: Share): void {
  const { rows, lineRows, masks } = arrays;
  const words = maskWords(vocab);
  const [from, to] = rangeOf(share, words);
  for (let line = 0; line < count; line++) {
    const row = lineRows[line]!;
    const place = isRow(rows, row) ? grammarRowOf(arrays, rows, row) : null;
    if (place === null) continue;
    const mask = masks.subarray(line * words, (line + 1) * words);
    maskTokens(arrays, place, mask, vocab, from, to);
    // Stop ids are admitted where the text may end, whatever their bytes.
    const walk = new GrammarWalk(arrays.pool, arrays.vocabulary);
    const mayEnd = walk.begin(place) && walk.isAccepting;
    for (const id of stopIds(rows, row * ROW_WORDS)) {
      const word = id >> 5;
      if (id >= vocab || word < from || word >= to) continue;
      const bit = 1 << (id & 31);
      if (mayEnd) mask[word]! |= bit;
      else mask[word]! &= ~bit;
    }
  }
}

/** Words [from, to) of one line's mask. */
function maskTokens(
  { pool, vocabulary }: GrammarArrays,
  place: Int32Array,
  mask: Int32Array,
  vocab: number,
  from: number,
  to: number,
): void {
  mask.fill(0, from, to);
  const walk = new GrammarWalk(pool, vocabulary);
  if (!walk.begin(place)) return;
  const { heads } = vocabulary;
  const firstBytes = Array.from({ length: 256 }, (_, byte) => walk.admitsByte(byte));
  const leaving = walk.leavingGroups() << TOKEN_GROUPS_SHIFT;
  for (let token = 32 * from; token < Math.min(32 * to, vocab); token++) {
    // Most tokens are in or out by what they are made of.
    const head = heads[token]!;
    const isIn = (head & leaving) === 0;
    if (isIn || (firstBytes[head & 0xff] && walk.admits(token))) {
      mask[token >> 5]! |= 1 << (token & 31);
    }
  }
}
