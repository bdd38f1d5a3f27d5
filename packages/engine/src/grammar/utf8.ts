import type { CodePointRange } from './expression.ts';

export type ByteRange = readonly [first: number, last: number];

const LAST_SURROGATE = 0xdfff;
/** The last code points of one to four bytes; surrogates, which are in no text, apart. */
const LIMITS = [0x7f, 0x7ff, 0xd7ff, LAST_SURROGATE, 0xffff, 0x10ffff];

/**
 * The byte sequences of the UTF-8 of code points, each as one range for each byte: a range of code
 * points is cut where lengths change and where its first bytes do not have all continuations.
 */
export function utf8Sequences(ranges: readonly CodePointRange[]): ByteRange[][] {
  const sequences: ByteRange[][] = [];
  for (const range of mergeRanges(ranges)) {
    let [first] = range;
    for (const limit of LIMITS) {
      const last = Math.min(range[1], limit);
      if (first > last) continue;
      if (limit !== LAST_SURROGATE) split(first, last, sequences);
      first = last + 1;
    }
  }
  return sequences;
}

function split(first: number, last: number, sequences: ByteRange[][]): void {
  for (let bits = 6; bits <= 18; bits += 6) {
    const low = (1 << bits) - 1;
    if (last <= 0x7f || first >> bits === last >> bits) continue;
    if ((first & low) !== 0) {
      split(first, first | low, sequences);
      split((first | low) + 1, last, sequences);
      return;
    }
    if ((last & low) !== low) {
      split(first, (last & ~low) - 1, sequences);
      split(last & ~low, last, sequences);
      return;
    }
  }
  const from = encode(first);
  const to = encode(last);
  sequences.push(from.map((byte, at) => [byte, to[at] ?? byte]));
}

function encode(point: number): number[] {
  if (point < 0x80) return [point];
  const tail = 0x80 | (point & 0x3f);
  if (point < 0x800) return [0xc0 | (point >> 6), tail];
  const middle = 0x80 | ((point >> 6) & 0x3f);
  if (point < 0x10000) return [0xe0 | (point >> 12), middle, tail];
  return [0xf0 | (point >> 18), 0x80 | ((point >> 12) & 0x3f), middle, tail];
}

/** The same code points in ranges that are in order and do not touch. */
export function mergeRanges(ranges: readonly CodePointRange[]): CodePointRange[] {
  const merged: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (first > last) continue;
    const previous = merged.at(-1);
    if (previous !== undefined && first <= previous[1] + 1) {
      previous[1] = Math.max(previous[1], last);
    } else {
      merged.push([first, last]);
    }
  }
  return merged;
}
