import { expect, test } from 'vitest';
import { maskWords } from '../../grammar-layout.ts';
import { LOGPROB_WORDS, MAX_BIAS, ROW, ROW_WORDS } from '../../row-layout.ts';
import { WHOLE } from '../testing/share.ts';
import { sample } from './sampling.ts';

interface Setting {
  readonly linesPerRow?: number;
  /** Tokens of the row before these lines. */
  readonly generated?: number;
  readonly temperature?: number;
  readonly topK?: number;
}

/** The tokens of one row's lines. */
function drawn(lines: readonly (readonly number[])[], setting: Setting = {}): number[] {
  const { linesPerRow = 1, generated = 0, temperature = 0, topK = 0 } = setting;
  const [count, vocab] = [lines.length, lines[0]!.length];
  const rows = new Int32Array(ROW_WORDS);
  const floats = new Float32Array(rows.buffer);
  rows[ROW.GENERATED] = generated;
  rows[ROW.SEED_LO] = 11;
  rows[ROW.TOP_K] = topK;
  floats[ROW.TEMPERATURE] = temperature;
  floats[ROW.TOP_P] = 1;
  const sampled = new Int32Array(count);
  const arrays = {
    rows,
    control: new Int32Array(64),
    lineRows: new Int32Array(count),
    logits: Float32Array.from(lines.flat()),
    counts: new Int32Array(vocab),
    bias: new Int32Array(2 * MAX_BIAS),
    masks: new Int32Array(count * maskWords(vocab)),
    sampled,
    logprobs: new Int32Array(count * LOGPROB_WORDS),
  };
  sample(arrays, { count, linesPerRow, vocab, ringSlots: 1, ringLines: count }, WHOLE);
  return [...sampled];
}

test('lines of one row draw as its tokens one after the other would', () => {
  const even = Array<number>(1000).fill(0);
  const one = (generated: number) => drawn([even], { temperature: 1, generated })[0]!;
  const alone = [7, 8, 9].map(one);
  expect(new Set([...alone, one(6), one(5)]).size).toBe(5);
  const lines = [even, even, even];
  expect(drawn(lines, { linesPerRow: 3, temperature: 1, generated: 7 })).toEqual(alone);
});

test.each([
  ['greedily', {}],
  ['from the best alone', { topK: 1, temperature: 1 }],
])('a line draws %s, whatever a longer one held before it', (_, setting) => {
  // What stood behind its end is the best by far.
  drawn([[0, 0, 0, 0, 50, 50, 50, 50]], setting);
  expect(drawn([[1, 2, 4, 3]], setting)).toEqual([2]);
});
