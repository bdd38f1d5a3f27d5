import { MAX_BIAS, MAX_STOP_IDS, ROW, ROW_FLAG, ROW_WORDS } from '@bridgekeeper/device';
import { describe, expect, it } from 'vitest';
import { EngineError, type SamplingParams } from './request.ts';
import { checkSampling, encodeBias, encodeRow, GREEDY, usesPenalties } from './sampling.ts';

const VOCABULARY = 100;
const check = (params: object) =>
  checkSampling({ ...GREEDY, ...params } as SamplingParams, VOCABULARY);
const repeated = <T>(count: number, value: T) => Array.from({ length: count }, () => value);

const refusal = (params: object): EngineError => {
  try {
    check(params);
  } catch (error) {
    if (error instanceof EngineError) return error;
  }
  throw new Error('it was accepted');
};

const INT32_MAX = 2 ** 31 - 1;

describe('sampling parameters', () => {
  it.each([
    ['temperature', [0, 0.5, 100]],
    ['topK', [0, 1, INT32_MAX]],
    ['topP', [1e-9, 1]],
    ['minP', [0, 0.5, 1]],
    ['repetitionPenalty', [1e-9, 100]],
    ['presencePenalty', [-2, 0.5, 2]],
    ['frequencyPenalty', [-2, 0.5, 2]],
    ['maxTokens', [1, INT32_MAX]],
    ['minTokens', [0, 16]],
    ['logprobs', [undefined, 0, 20]],
    ['promptLogprobs', [undefined, 0, 20]],
    ['seed', [undefined, 0n, 2n ** 64n - 1n]],
    ['logitBias', [[], [[0, -100]], [[99, 100]], repeated(MAX_BIAS, [5, 0.5])]],
    ['stopTokenIds', [[], [0], [99], repeated(MAX_STOP_IDS, 5)]],
  ])('%s reaches to the ends of its range', (name, values: readonly unknown[]) => {
    for (const value of values) check({ [name]: value });
  });

  it.each([
    ['temperature', 'temperature', [-0.1, 100.1, NaN, '1', null], 'a number in [0, 100]'],
    ['topK', 'top_k', [-1, 1.5, INT32_MAX + 1], `an integer in [0, ${INT32_MAX}]`],
    ['topP', 'top_p', [0, 1.1], 'a number in (0, 1]'],
    ['minP', 'min_p', [-0.1, 1.1], 'a number in [0, 1]'],
    ['repetitionPenalty', 'repetition_penalty', [0, 100.1], 'a number in (0, 100]'],
    ['presencePenalty', 'presence_penalty', [-2.1, 2.1], 'a number in [-2, 2]'],
    ['frequencyPenalty', 'frequency_penalty', [-2.1, 2.1], 'a number in [-2, 2]'],
    ['maxTokens', 'max_tokens', [0, 1.5, INT32_MAX + 1], `an integer in [1, ${INT32_MAX}]`],
    ['minTokens', 'min_tokens', [-1, 0.5, INT32_MAX + 1], `an integer in [0, ${INT32_MAX}]`],
    ['logprobs', 'logprobs', [-1, 0.5, 21], 'an integer in [0, 20]'],
    ['promptLogprobs', 'prompt_logprobs', [-1, 0.5, 21], 'an integer in [0, 20]'],
  ])('%s is refused beyond, as %s', (name, parameter, values: readonly unknown[], range) => {
    for (const value of values) {
      const error = refusal({ [name]: value });
      expect(error).toMatchObject({ code: 'bad-request', parameter });
      expect(error.message).toBe(`${parameter} must be ${range}, got ${value}`);
    }
  });

  it('ask for no more tokens at least than at most', () => {
    check({ minTokens: 5, maxTokens: 5 });
    const error = refusal({ minTokens: 6, maxTokens: 5 });
    expect(error.parameter).toBe('min_tokens');
    expect(error.message).toBe('min_tokens (6) must not exceed max_tokens (5)');
  });

  it('have a seed of unsigned 64 bits', () => {
    for (const seed of [-1n, 2n ** 64n]) {
      expect(refusal({ seed })).toMatchObject({
        parameter: 'seed',
        message: 'seed must be an unsigned 64-bit integer',
      });
    }
  });

  it('name tokens of the vocabulary, and not too many', () => {
    for (const id of [-1, 100, 1.5]) {
      const outside = `${id} is not a token id (0 to 99)`;
      expect(refusal({ stopTokenIds: [5, id] }).message).toBe(`stop_token_ids: ${outside}`);
      expect(refusal({ logitBias: [[id, 1]] }).message).toBe(`logit_bias: ${outside}`);
    }
    const stops = refusal({ stopTokenIds: repeated(MAX_STOP_IDS + 1, 5) });
    expect(stops.message).toBe('stop_token_ids may name at most 32 tokens, got 33');
    const biases = refusal({ logitBias: repeated(MAX_BIAS + 1, [5, 1]) });
    expect(biases).toMatchObject({
      parameter: 'logit_bias',
      message: 'logit_bias may name at most 300 tokens, got 301',
    });
  });

  it('allow and ban tokens of the vocabulary, as many as may have a bias', () => {
    const ids = (count: number, from = 0) => Array.from({ length: count }, (_, at) => from + at);
    const of = (more: Partial<SamplingParams>) => {
      try {
        checkSampling({ ...GREEDY, ...more }, 1000);
      } catch (error) {
        if (error instanceof EngineError) return error.parameter;
        throw error;
      }
      return undefined;
    };
    expect(
      of({ allowedTokenIds: ids(MAX_BIAS), bannedTokenIds: ids(MAX_BIAS, 1) }),
    ).toBeUndefined();
    expect(of({ allowedTokenIds: ids(MAX_BIAS + 1) })).toBe('allowed_token_ids');
    expect(of({ allowedTokenIds: [1000] })).toBe('allowed_token_ids');
    expect(of({ bannedTokenIds: [-1] })).toBe('bad_words');
    const logitBias = ids(200).map((id) => [id, 1] as const);
    expect(of({ logitBias, bannedTokenIds: ids(100, 150) })).toBeUndefined();
    expect(of({ logitBias, bannedTokenIds: ids(101, 200) })).toBe('bad_words');
  });

  it('leave a token to sample', () => {
    expect(refusal({ allowedTokenIds: [] }).parameter).toBe('allowed_token_ids');
    const none = refusal({ allowedTokenIds: [5, 6], bannedTokenIds: [6, 5] });
    expect(none.parameter).toBe('allowed_token_ids');
    check({ allowedTokenIds: [5], stopTokenIds: [5] });
    const unreachable = { allowedTokenIds: [5], stopTokenIds: [5], minTokens: 1 };
    expect(refusal(unreachable).parameter).toBe('min_tokens');
    check({ ...unreachable, allowedTokenIds: [5, 6] });
  });

  it('bias no token by more than 100', () => {
    for (const bias of [-100.1, 100.1, NaN]) {
      const error = refusal({
        logitBias: [
          [5, 1],
          [6, bias],
        ],
      });
      expect(error.parameter).toBe('logit_bias');
      expect(error.message).toBe(`logit_bias values must be numbers in [-100, 100], got ${bias}`);
    }
  });
});

describe('a row', () => {
  const START = {
    token: 3,
    position: 4,
    generated: 5,
    remaining: 6,
    seed: 7n,
    epoch: 8,
    hasGrammar: false,
  };
  const params: SamplingParams = {
    temperature: 0.5,
    topK: 9,
    topP: 0.25,
    minP: 0.125,
    repetitionPenalty: 1.5,
    presencePenalty: -0.5,
    frequencyPenalty: 0.75,
    logitBias: [
      [5, 1.5],
      [6, -2],
    ],
    allowedTokenIds: undefined,
    bannedTokenIds: [],
    seed: undefined,
    maxTokens: 16,
    minTokens: 10,
    stopTokenIds: [11, 12, 13],
    logprobs: 4,
    promptLogprobs: undefined,
  };
  const encode = (more: Partial<SamplingParams> = {}, start: Partial<typeof START> = {}) =>
    encodeRow({ ...params, ...more }, { ...START, ...start });

  it('has every parameter where the kernels read it', () => {
    const words = encode({}, { seed: 0x89abcdef_01234567n });
    const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
    const expected = new Int32Array(ROW_WORDS);
    const expectedFloats = new Float32Array(expected.buffer);
    const integers = {
      TOKEN: 3,
      POSITION: 4,
      GENERATED: 5,
      REMAINING: 6,
      MIN_TOKENS: 10,
      SEED_LO: 0x01234567,
      SEED_HI: 0x89abcdef | 0,
      TOP_K: 9,
      FLAGS: ROW_FLAG.PENALTIES | ROW_FLAG.LOGPROBS,
      TOP_LOGPROBS: 4,
      BIAS_COUNT: 2,
      STOP_COUNT: 3,
      EPOCH: 8,
    } as const;
    for (const [name, value] of Object.entries(integers)) {
      expected[ROW[name as keyof typeof integers]] = value;
    }
    const reals = {
      TEMPERATURE: 0.5,
      TOP_P: 0.25,
      MIN_P: 0.125,
      REPETITION: 1.5,
      PRESENCE: -0.5,
      FREQUENCY: 0.75,
    } as const;
    for (const [name, value] of Object.entries(reals)) {
      expectedFloats[ROW[name as keyof typeof reals]] = value;
      expect(floats[ROW[name as keyof typeof reals]]).toBe(value);
    }
    expected.set([11, 12, 13], ROW.STOP_IDS);
    expect(words).toEqual(expected);
  });

  it('keeps nothing of the row before', () => {
    encode();
    const words = encode({ stopTokenIds: [] });
    expect([...words.subarray(ROW.STOP_IDS)]).toEqual(repeated(ROW_WORDS - ROW.STOP_IDS, 0));
  });

  it('says whether logprobs are wanted, none of the best among them', () => {
    const plain = { repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 };
    const flags = (more: Partial<SamplingParams>) => encode({ ...plain, ...more })[ROW.FLAGS];
    expect(flags({ logprobs: undefined })).toBe(0);
    expect(encode({ logprobs: undefined })[ROW.TOP_LOGPROBS]).toBe(0);
    expect(flags({ logprobs: 0 })).toBe(ROW_FLAG.LOGPROBS);
    expect(flags({ logprobs: undefined, presencePenalty: 1 })).toBe(ROW_FLAG.PENALTIES);
  });

  it('counts tokens where any penalty is on', () => {
    expect(usesPenalties(GREEDY)).toBe(false);
    expect(usesPenalties({ ...GREEDY, repetitionPenalty: 1.1 })).toBe(true);
    expect(usesPenalties({ ...GREEDY, presencePenalty: -1 })).toBe(true);
    expect(usesPenalties({ ...GREEDY, frequencyPenalty: 1 })).toBe(true);
  });

  it('has banned tokens among its biases, and of allowed ones nothing but theirs', () => {
    const entries = (more: Partial<SamplingParams>) => {
      const pairs = encodeBias({ ...params, ...more });
      expect(encode(more)[ROW.BIAS_COUNT]).toBe(pairs.length / 2);
      const bits = new Float32Array(pairs.buffer);
      return Array.from({ length: pairs.length / 2 }, (_, at) => [pairs[2 * at], bits[2 * at + 1]]);
    };
    const never = Number.NEGATIVE_INFINITY;
    expect(entries({ bannedTokenIds: [6, 7] })).toEqual([
      [5, 1.5],
      [6, never],
      [7, never],
    ]);
    expect(entries({ allowedTokenIds: [9, 6, 5, 9], bannedTokenIds: [6, 7] })).toEqual([
      [9, 0],
      [6, never],
      [5, 1.5],
    ]);
    expect(encode({})[ROW.FLAGS]! & ROW_FLAG.ALLOWED).toBe(0);
    expect(encode({ allowedTokenIds: [9] })[ROW.FLAGS]! & ROW_FLAG.ALLOWED).not.toBe(0);
    expect(encode({})[ROW.FLAGS]! & ROW_FLAG.GRAMMAR).toBe(0);
    expect(encode({}, { hasGrammar: true })[ROW.FLAGS]! & ROW_FLAG.GRAMMAR).not.toBe(0);
  });

  it('has its biases beside it, as pairs of a token and the bits of its bias', () => {
    const pairs = encodeBias(params);
    expect(pairs).toHaveLength(4);
    expect([pairs[0], pairs[2]]).toEqual([5, 6]);
    const bits = new Float32Array(pairs.buffer);
    expect([bits[1], bits[3]]).toEqual([1.5, -2]);
  });
});
