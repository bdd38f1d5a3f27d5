import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GREEDY } from '../request/sampling.ts';
import { Sequence } from './sequence.ts';

function sequence(prompt: readonly number[]): Sequence {
  const promptTokens = Uint32Array.from(prompt);
  return new Sequence({ id: 'r', tenant: 't', promptTokens, sampling: GREEDY }, 7n, 3, 11);
}

test('a new sequence waits with its prompt, and nothing of it is anywhere', () => {
  expect(sequence([1, 2])).toMatchObject({
    seed: 7n,
    arrival: 3,
    arrivedNs: 11,
    phase: 'waiting',
    promptLength: 2,
    length: 2,
    generated: 0,
    computed: 0,
    pages: [],
    published: 0,
    row: -1,
    epoch: 0,
    cachedTokens: 0,
    preemptions: 0,
    cancelled: false,
  });
});

test('one that was begun elsewhere goes on behind its tokens, as one that starts over', () => {
  const promptTokens = Uint32Array.of(1, 2);
  const request = { id: 'r', tenant: 't', promptTokens, sampling: GREEDY };
  const priorTokens = Uint32Array.of(8, 9, 7);
  const begun = new Sequence({ ...request, priorTokens }, 7n, 3, 11);
  expect(begun).toMatchObject({ promptLength: 2, length: 5, generated: 3, preemptions: 1 });
  expect([...begun.tokens()]).toEqual([1, 2, 8, 9, 7]);
});

test('it holds prompt and output, however long they get', () => {
  const token = fc.nat(1000);
  fc.assert(
    fc.property(
      fc.array(token),
      fc.array(token, { maxLength: 300, size: 'max' }),
      (prompt, output) => {
        const one = sequence(prompt);
        for (const each of output) one.append(each);
        const all = [...prompt, ...output];
        expect([...one.tokens()]).toEqual(all);
        expect([...one.tokens(1, all.length)]).toEqual(all.slice(1));
        expect([...one.tokens(0, all.length >> 1)]).toEqual(all.slice(0, all.length >> 1));
        expect([one.length, one.generated]).toEqual([all.length, output.length]);
      },
    ),
  );
});
