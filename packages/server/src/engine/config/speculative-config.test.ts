import { describe, expect, it } from 'vitest';
import { readSpeculativeConfig } from './speculative-config.ts';

const json = (value: unknown) => readSpeculativeConfig(JSON.stringify(value));

describe('--speculative-config', () => {
  it('is read as vLLM spells it', () => {
    const whole = {
      method: 'ngram',
      num_speculative_tokens: 4,
      prompt_lookup_max: 4,
      prompt_lookup_min: 2,
    };
    expect(json(whole)).toEqual({ drafts: 4, lookupMin: 2, lookupMax: 4 });
  });

  it('takes one end of the look-up for the other, and without both five tokens', () => {
    const common = { method: 'ngram', num_speculative_tokens: 1 };
    expect(json(common)).toEqual({ drafts: 1, lookupMin: 5, lookupMax: 5 });
    const ends = { drafts: 1, lookupMin: 3, lookupMax: 3 };
    expect(json({ ...common, prompt_lookup_max: 3 })).toEqual(ends);
    expect(json({ ...common, prompt_lookup_min: 3 })).toEqual(ends);
  });

  it.each([
    ['[]', 'must be a JSON object'],
    ['ngram', 'must be a JSON object'],
    ['null', 'must be a JSON object'],
    ['{"num_speculative_tokens": 4}', '"method" must be "ngram"'],
    ['{"method": "eagle", "num_speculative_tokens": 4}', '"method" must be "ngram"'],
    ['{"method": "ngram"}', '"num_speculative_tokens" is missing'],
    [
      '{"method": "ngram", "num_speculative_tokens": 0}',
      '"num_speculative_tokens" must be an integer from 1 to 15',
    ],
    [
      '{"method": "ngram", "num_speculative_tokens": 16}',
      '"num_speculative_tokens" must be an integer from 1 to 15',
    ],
    [
      '{"method": "ngram", "num_speculative_tokens": "4"}',
      '"num_speculative_tokens" must be an integer from 1 to 15',
    ],
    [
      '{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 17}',
      '"prompt_lookup_max" must be an integer from 1 to 16',
    ],
    [
      '{"method":"ngram","num_speculative_tokens":4,"prompt_lookup_max":2,"prompt_lookup_min":3}',
      '"prompt_lookup_min" (3) must be at most "prompt_lookup_max" (2)',
    ],
    ['{"method": "ngram", "num_speculative_tokens": 4, "model": "x"}', 'unknown key "model"'],
    ['{"method": "ngram", "num_speculative_tokens": 4, "__proto__": 1}', 'unknown key "__proto__"'],
  ])('refuses %s', (text, why) => {
    expect(() => readSpeculativeConfig(text)).toThrow(`--speculative-config: ${why}`);
  });
});
