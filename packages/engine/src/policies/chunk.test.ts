import { expect, test } from 'vitest';
import { GREEDY } from '../request/sampling.ts';
import { Sequence } from '../scheduler/sequence.ts';
import { ChunkControl } from './chunk.ts';

const request = { id: 'r', tenant: 't', promptTokens: Uint32Array.of(1), sampling: GREEDY };
const sequence = new Sequence(request, 0n, 0, 0);
const LIMITS = { interTokenLimitNs: 50e6, maxBatchTokens: 8192 };

/** Shows a control one launch of `length` prompt tokens beside `rows`, which took `ns`. */
function take(control: ChunkControl, length: number, ns: number, rows = 0, steps = 1): number {
  const prefill = length === 0 ? [] : [{ sequence, epoch: 1, start: 0, length, last: true }];
  const decode = new Array<Sequence>(rows).fill(sequence);
  control.observe({
    plan: { prefill, decode, steps, drafts: 0, pageWrites: [], grammarWrites: [] },
    deviceNs: ns,
  });
  return control.tokens;
}

test.each([
  ['what takes about as long as the limit', 512, 12e6, 2048],
  ['more on a faster machine', 512, 6e6, 4096],
  ['of whole tiles, not of powers of two alone', 1024, 17.6e6, 3072],
  ['believed to be as long as it was, to a part of a nanosecond', 1024, 27.5e6 + 0.5, 1024],
  ['measured by launches of half its size', 256, 6e6, 2048],
  ['measured by small launches that take the limit themselves', 200, 50e6, 128],
  ['measured by the least launches that count', 32, 64e6, 32],
  ['less on a slower one', 512, 230e6, 64],
  ['a tenth longer rather than half as long', 2048, 54e6, 2048],
  ['but no more than a tenth', 2048, 56e6, 1024],
  ['no more than any launch holds', 512, 0.5e6, 8192],
  ['all that any launch holds, also where that is no fast size', 512, 1, 8192],
  ['some in any case', 64, 10e9, 32],
])('a chunk is %s', (_, length, ns, tokens) => {
  expect(take(new ChunkControl(LIMITS), length, ns)).toBe(tokens);
});

test('a step of rows beside it is not counted', () => {
  const control = new ChunkControl(LIMITS);
  take(control, 0, 10e6, 32);
  expect(take(control, 992, 34e6, 32)).toBe(2048);
});

test('a step is one of those that a launch has, and counts where there are rows only', () => {
  const control = () => {
    const made = new ChunkControl(LIMITS);
    expect(take(made, 0, 80e6, 32, 8)).toBe(512);
    return made;
  };
  expect(take(control(), 992, 34e6, 32)).toBe(2048);
  expect(take(control(), 1023, 34e6, 1)).toBe(2048);
  expect(take(control(), 1024, 34e6)).toBe(1024);
});

test('half of a launch at least is taken to be its prompts', () => {
  const control = new ChunkControl(LIMITS);
  take(control, 0, 30e6, 32);
  expect(take(control, 992, 40e6, 32)).toBe(2048);
});

test('launches without prompts say nothing of chunks, and small ones within a step neither', () => {
  const control = new ChunkControl(LIMITS);
  expect(take(control, 0, 30e6, 300)).toBe(512);
  expect(take(control, 100, 75e6, 1)).toBe(512);
});

test('a launch that could hold all there may be gets it, to the token', () => {
  const control = new ChunkControl({ interTokenLimitNs: 10, maxBatchTokens: 1500 });
  expect(take(control, 1500, 11)).toBe(1500);
});

test('one launch that seems to take twice as long changes nothing, and many do', () => {
  const control = new ChunkControl(LIMITS);
  take(control, 2048, 48e6);
  expect(take(control, 2048, 96e6)).toBe(2048);
  for (let launch = 0; launch < 5; launch++) take(control, 2048, 96e6);
  expect(control.tokens).toBe(1024);
});

test('small launches, which only read the weights, say nothing', () => {
  const control = new ChunkControl({ ...LIMITS, maxBatchTokens: 2048 });
  expect(control.tokens).toBe(512);
  expect(control.reason).toMatch('no prompt was measured');
  expect(take(control, 10, 6e6, 32)).toBe(512);
  expect(take(control, 200, 40e6)).toBe(512);
  expect(take(control, 10, 400e6)).toBe(512);
  expect(take(control, 512, 0)).toBe(512);
  expect(take(control, 512, 24e6)).toBe(1024);
  expect(take(control, 100, 6e6)).toBe(1024);
  expect(control.reason).toBe(
    '1024 tokens take 48 ms, of about 50 ms between steps of rows; ' +
      'up to 2048 where no row decodes',
  );
  for (let launch = 0; launch < 20; launch++) take(control, 1024, 24e6);
  expect(control.tokens).toBe(2048);
  expect(control.reason).toMatch('no launch holds more');
});
