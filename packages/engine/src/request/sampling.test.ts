import { MAX_BIAS, MAX_STOP_IDS, ROW, ROW_FLAG, ROW_WORDS } from '@bridgekeeper/device';
import { describe, expect, test } from 'vitest';
import { checkRequest } from './check-request.ts';
import { type EngineCard, EngineError, type SamplingParams } from './request.ts';
import { checkSampling, encodeBias, encodeRow, GREEDY, usesPenalties } from './sampling.ts';

const VOCABULARY = 100;

/** The parameter that is refused with these changes, or undefined. */
function refused(run: () => unknown): EngineError | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
}
const faultOf = (changes: Partial<SamplingParams>) =>
  refused(() => checkSampling({ ...GREEDY, ...changes }, VOCABULARY));

const INT32_MAX = 2 ** 31 - 1;

describe('sampling parameters', () => {
  test.each<[keyof SamplingParams, string, number[], number[]]>([
    ['temperature', 'temperature', [0, 0.5, 100], [-0.1, 100.1]],
    ['topK', 'top_k', [0, 1, INT32_MAX], [-1, 0.5, INT32_MAX + 1]],
    ['topP', 'top_p', [0.001, 1], [0, -1, 1.001]],
    ['minP', 'min_p', [0, 0.5, 1], [-0.001, 1.001]],
    ['repetitionPenalty', 'repetition_penalty', [0.001, 1, 100], [0, -1, 100.5]],
    ['presencePenalty', 'presence_penalty', [-2, 0.5, 2], [-2.1, 2.1]],
    ['frequencyPenalty', 'frequency_penalty', [-2, 0.5, 2], [-2.1, 2.1]],
    ['maxTokens', 'max_tokens', [1, INT32_MAX], [0, 1.5, INT32_MAX + 1]],
    ['minTokens', 'min_tokens', [0, 16], [-1, 0.5, 17, INT32_MAX + 1]],
    ['logprobs', 'logprobs', [0, 20], [-1, 0.5, 21]],
    ['promptLogprobs', 'prompt_logprobs', [0, 20], [-1, 0.5, 21]],
  ])('%s keeps to its range', (key, parameter, good, bad) => {
    for (const value of good) expect(faultOf({ [key]: value })).toBeUndefined();
    for (const value of [...bad, Number.NaN, Number.POSITIVE_INFINITY, 'text', '1']) {
      const fault = faultOf({ [key]: value as number });
      expect([value, fault?.code, fault?.parameter]).toEqual([value, 'bad-request', parameter]);
    }
  });

  test('the message says which numbers are allowed', () => {
    expect(faultOf({ topP: 0 })?.message).toBe('top_p must be a number in (0, 1], got 0');
    expect(faultOf({ topK: -1 })?.message).toBe(
      `top_k must be an integer in [0, ${INT32_MAX}], got -1`,
    );
    expect(String(faultOf({ topK: -1 }))).toMatch(/^EngineError: /);
  });

  test('a seed has 64 bits and no sign; none is none', () => {
    for (const seed of [undefined, 0n, 2n ** 64n - 1n]) expect(faultOf({ seed })).toBeUndefined();
    for (const seed of [-1n, 2n ** 64n]) expect(faultOf({ seed })?.parameter).toBe('seed');
  });

  test('biases and stop ids name tokens of the vocabulary, only so many', () => {
    const bias = (token: number, value = 1) => faultOf({ logitBias: [[token, value]] })?.parameter;
    const stop = (token: number) => faultOf({ stopTokenIds: [token] })?.parameter;
    for (const token of [0, VOCABULARY - 1]) {
      expect([bias(token), stop(token)]).toEqual([undefined, undefined]);
    }
    for (const token of [-1, 0.5, VOCABULARY]) {
      expect([bias(token), stop(token)]).toEqual(['logit_bias', 'stop_token_ids']);
    }
    for (const value of [-100, 0, 100]) expect(bias(1, value)).toBeUndefined();
    for (const value of [-100.5, 100.5, Number.NaN]) expect(bias(1, value)).toBe('logit_bias');
    const biases = (count: number) =>
      faultOf({ logitBias: Array.from({ length: count }, () => [1, 1] as const) })?.parameter;
    expect([biases(MAX_BIAS), biases(MAX_BIAS + 1)]).toEqual([undefined, 'logit_bias']);
    const stops = (count: number) => faultOf({ stopTokenIds: new Array(count).fill(1) })?.parameter;
    expect([stops(MAX_STOP_IDS), stops(MAX_STOP_IDS + 1)]).toEqual([undefined, 'stop_token_ids']);
  });

  test('any penalty that is not neutral needs counts', () => {
    expect(usesPenalties(GREEDY)).toBe(false);
    for (const key of ['repetitionPenalty', 'presencePenalty', 'frequencyPenalty'] as const) {
      expect(usesPenalties({ ...GREEDY, [key]: 0.5 })).toBe(true);
    }
  });
});

describe('a row', () => {
  const start = {
    token: 5,
    position: 6,
    generated: 7,
    remaining: 8,
    seed: 0x1234567_89abcdefn,
    epoch: 9,
  };

  test('has every parameter at its place, and nothing of the row before', () => {
    const params: SamplingParams = {
      temperature: 0.5,
      topK: 11,
      topP: 0.25,
      minP: 0.125,
      repetitionPenalty: 1.5,
      presencePenalty: 0.75,
      frequencyPenalty: -0.5,
      logitBias: [
        [3, 1.5],
        [4, -2.5],
      ],
      seed: undefined,
      maxTokens: 20,
      minTokens: 2,
      stopTokenIds: [41, 42, 43],
      logprobs: 4,
      promptLogprobs: undefined,
    };
    const words = encodeRow(params, start).slice();
    const floats = new Float32Array(words.buffer);
    const ints = (...keys: (keyof typeof ROW)[]) => keys.map((key) => words[ROW[key]]);
    expect(words).toHaveLength(ROW_WORDS);
    expect(ints('ACTIVE', 'TOKEN', 'POSITION', 'GENERATED', 'REMAINING')).toEqual([0, 5, 6, 7, 8]);
    expect(ints('MIN_TOKENS', 'TOP_K', 'TOP_LOGPROBS', 'EPOCH')).toEqual([2, 11, 4, 9]);
    expect(ints('BIAS_COUNT', 'STOP_COUNT')).toEqual([2, 3]);
    expect(ints('SEED_LO', 'SEED_HI').map((word) => word! >>> 0)).toEqual([0x89abcdef, 0x1234567]);
    expect(words[ROW.FLAGS]).toBe(ROW_FLAG.PENALTIES | ROW_FLAG.LOGPROBS);
    expect([...words.slice(ROW.STOP_IDS, ROW.STOP_IDS + 4)]).toEqual([41, 42, 43, 0]);
    const real = (
      ['TEMPERATURE', 'TOP_P', 'MIN_P', 'REPETITION', 'PRESENCE', 'FREQUENCY'] as const
    ).map((key) => floats[ROW[key]]);
    expect(real).toEqual([0.5, 0.25, 0.125, 1.5, 0.75, -0.5]);
    const pairs = encodeBias(params);
    expect([pairs.length, pairs[0], pairs[2]]).toEqual([4, 3, 4]);
    const bits = new Float32Array(pairs.buffer);
    expect([bits[1], bits[3]]).toEqual([1.5, -2.5]);

    const plain = encodeRow(GREEDY, start);
    expect([plain[ROW.FLAGS], plain[ROW.TOP_LOGPROBS], plain[ROW.STOP_IDS]]).toEqual([0, 0, 0]);
    expect(encodeRow({ ...GREEDY, logprobs: 0 }, start)[ROW.FLAGS]).toBe(ROW_FLAG.LOGPROBS);
    expect(encodeBias(GREEDY)).toHaveLength(0);
  });

  test('is greedy, and nothing else, where nothing is wanted', () => {
    expect(faultOf({})).toBeUndefined();
    const words = encodeRow(GREEDY, { ...start, seed: 0n }).slice();
    const floats = new Float32Array(words.buffer);
    expect([floats[ROW.TEMPERATURE], words[ROW.TOP_K], floats[ROW.TOP_P]]).toEqual([0, 0, 1]);
    expect([floats[ROW.MIN_P], words[ROW.MIN_TOKENS]]).toEqual([0, 0]);
    expect([GREEDY.seed, GREEDY.maxTokens]).toEqual([0n, 16]);
  });
});

describe('a request', () => {
  const card = { vocabularySize: VOCABULARY, maxModelTokens: 32, maxRows: 2, maxWaiting: 3 };
  const check = (tokens: readonly number[], maxTokens = 8, open: readonly string[] = []) =>
    checkRequest(
      {
        id: 'r',
        tenant: 't',
        promptTokens: Uint32Array.from(tokens),
        sampling: { ...GREEDY, maxTokens },
      },
      card as EngineCard,
      new Map(open.map((id) => [id, 0])),
    );
  const faultOfRequest = (...args: Parameters<typeof check>) => {
    const fault = refused(() => check(...args));
    return fault && [fault.code, fault.parameter];
  };
  const tokens = (count: number) => new Array<number>(count).fill(1);

  test('is cut to the room that its prompt leaves, and is else as it was', () => {
    expect(check([1, 2, 3]).sampling).toEqual({ ...GREEDY, maxTokens: 8 });
    expect(check([1, 2, 3])).toMatchObject({ id: 'r', tenant: 't' });
    expect(check(tokens(30)).sampling.maxTokens).toBe(2);
    expect(check(tokens(31)).sampling.maxTokens).toBe(1);
  });

  test('is refused for what is wrong with it, by name', () => {
    expect(faultOfRequest([])).toEqual(['bad-request', 'prompt']);
    expect(faultOfRequest(tokens(32))).toEqual(['prompt-too-long', 'prompt']);
    expect(faultOfRequest([1, VOCABULARY - 1])).toBeUndefined();
    expect(faultOfRequest([1, VOCABULARY, 1])).toEqual(['bad-request', 'prompt']);
    expect(faultOfRequest([1], 0)).toEqual(['bad-request', 'max_tokens']);
    expect(faultOfRequest([1], 8, ['r'])).toEqual(['bad-request', 'request_id']);
    expect(faultOfRequest([1], 8, ['a', 'b', 'c', 'd'])).toBeUndefined();
    expect(faultOfRequest([1], 8, ['a', 'b', 'c', 'd', 'e'])).toEqual(['queue-full', undefined]);
  });

  test('is told what the bounds are', () => {
    expect(refused(() => check([VOCABULARY]))?.message).toContain('(0 to 99)');
    expect(refused(() => check(tokens(40)))?.message).toMatch(/is 32 tokens\. .* has 40 tokens/);
    expect(refused(() => check([1], 8, [...'abcde']))?.message).toMatch(
      /^5 requests are in flight/,
    );
  });
});
