import { expect, test } from 'vitest';
import type { ModelText } from '../text/model-text.ts';
import { judgedBy, judgement, shortenedVector, similarity } from './scoring.ts';

/** A tokenizer of words. */
function textOf(words: readonly string[]): Pick<ModelText, 'tokenizer'> {
  const tokenizer = {
    tokenId: (word: string) => (words.includes(word) ? words.indexOf(word) : undefined),
    encode: (word: string) =>
      words.includes(word) ? Uint32Array.of(words.indexOf(word)) : Uint32Array.of(0, 0),
  };
  return { tokenizer: tokenizer as unknown as ModelText['tokenizer'] };
}

const QWEN = textOf(['<|im_start|>', 'no', 'yes']);

test('a pair is judged in the form of the model card', () => {
  const prompt =
    '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query ' +
    'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n' +
    '<|im_start|>user\n<Instruct>: Find it\n<Query>: a\n<Document>: b<|im_end|>\n' +
    '<|im_start|>assistant\n<think>\n\n</think>\n\n';
  expect(judgement(QWEN, 'a', 'b', 'Find it')).toBe(prompt);
  const common = 'Given a web search query, retrieve relevant passages that answer the query';
  expect(judgement(QWEN, 'a', 'b', null)).toBe(prompt.replace('Find it', common));
});

test('texts that bring their form are joined, and so are those of a model without it', () => {
  expect(judgement(QWEN, '<|im_start|>a', 'b', undefined)).toBe('<|im_start|>ab');
  expect(judgement(textOf([]), 'a', 'b', undefined)).toBe('ab');
  expect(() => judgement(textOf([]), 'a', 'b', 'c')).toThrow('instruction cannot be honoured');
});

test('yes stands against no, each of one token', () => {
  expect(judgedBy(QWEN)).toEqual({ task: 'score', tokens: [2, 1] });
  expect(() => judgedBy(textOf(['yes']))).toThrow('"no" is not one token');
});

test('vectors are cut to length 1 again, and compared by their angle', () => {
  expect([...shortenedVector(Float32Array.of(3, 4, 5), 2)]).toEqual([
    expect.closeTo(0.6),
    expect.closeTo(0.8),
  ]);
  expect([...shortenedVector(Float32Array.of(0, 1), 1)]).toEqual([0]);
  expect(similarity(Float32Array.of(1, 0), Float32Array.of(0, 1))).toBe(0);
});
