import { expect, test } from 'vitest';
import { promptGraphSizes, promptLineCount } from './prompt-sizes.ts';

const sizesTo = (capturedPrompts: number, maxBatchTokens = 2048) =>
  promptGraphSizes({ capturedPrompts, maxBatchTokens });

test('graphs are for prompts up to the longest that is captured, or that a launch holds', () => {
  expect(sizesTo(0)).toEqual([]);
  expect(sizesTo(40)).toEqual([1, 2, 4, 8, 16, 32]);
  expect(sizesTo(256)).toHaveLength(4 + 16);
  expect(sizesTo(256).at(-1)).toBe(256);
  expect(sizesTo(1024)).toHaveLength(4 + 16 + 24);
  expect(sizesTo(1024, 300).at(-1)).toBe(288);
});

test('prompts alone take the next larger graph, or as many lines as they have', () => {
  const count = (lengths: readonly number[], decode: readonly unknown[] = []) => {
    const prefill = lengths.map((length) => ({ length }));
    return promptLineCount({ prefill, decode } as never, sizesTo(256));
  };
  expect([1, 3, 8, 9, 17, 256].map((length) => count([length]))).toEqual([1, 4, 8, 16, 32, 256]);
  expect(count([5, 5, 5])).toBe(16);
  expect(count([257])).toBe(257);
  expect(count([17], [{}])).toBe(17);
  expect(count([])).toBe(0);
});
