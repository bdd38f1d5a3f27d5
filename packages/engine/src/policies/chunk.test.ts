import { expect, test } from 'vitest';
import { GREEDY } from '../request/sampling.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { ChunkControl } from './chunk.ts';

const request = { id: 'r', tenant: 't', promptTokens: Uint32Array.of(1), sampling: GREEDY };
const sequence = new Sequence(request, 0n, 0, 0);
const LIMITS = { interTokenLimitNs: 50e6, maxBatchTokens: 8192 };

/** Shows a control one launch of `length` prompt tokens beside `rows`, which took `ns`. */
function take(control: ChunkControl, length: number, ns: number, rows = 0): number {
  const prefill = length === 0 ? [] : [{ sequence, epoch: 1, start: 0, length, last: true }];
  const decode = new Array<Sequence>(rows).fill(sequence);
  control.observe({ plan: { prefill, decode, steps: 1, pageWrites: [] }, deviceNs: ns });
  return control.tokens;
}

test.each([
  ['what takes as long as the limit, in whole tiles', 2048, 48e6, 2048],
  ['more on a faster machine', 512, 6e6, 4224],
  ['less on a slower one', 512, 256e6, 96],
  ['no more than any launch holds', 512, 0.5e6, 8192],
  ['some in any case', 64, 10e9, 32],
])('a chunk is %s', (_, length, ns, tokens) => {
  expect(take(new ChunkControl(LIMITS), length, ns)).toBe(tokens);
});

test('tokens of rows beside prompts count as theirs do', () => {
  expect(take(new ChunkControl(LIMITS), 1024, 48e6, 1024)).toBe(2048);
});

test('small launches, which only read the weights, say nothing', () => {
  const control = new ChunkControl(LIMITS);
  expect(control.tokens).toBe(512);
  expect(control.reason).toMatch('no prompt was measured');
  expect(take(control, 10, 6e6, 32)).toBe(512);
  expect(take(control, 0, 6e6, 32)).toBe(512);
  expect(take(control, 512, 12.5e6)).toBe(2048);
  expect(take(control, 100, 6e6)).toBe(2048);
  expect(control.reason).toBe(
    '2048 tokens take 50 ms, of 50 ms that tokens may take to come; ' +
      'up to 8192 where no row decodes',
  );
});

test('it comes to the limit whatever a launch costs beside its tokens', () => {
  const control = new ChunkControl(LIMITS);
  for (let launch = 0; launch < 60; launch++)
    take(control, control.tokens, 8e6 + control.tokens * 5e3);
  // 8 ms and 5 us a token: 8400 tokens would take the limit, a launch holds fewer.
  expect(control.tokens).toBe(8192);
  for (let launch = 0; launch < 60; launch++)
    take(control, control.tokens, 8e6 + control.tokens * 2e4);
  expect(control.tokens).toBeGreaterThanOrEqual(1920);
  expect(control.tokens).toBeLessThanOrEqual(2100);
});
