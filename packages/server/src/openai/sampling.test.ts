import { EngineError } from '@bridgekeeper/engine';
import type { SamplingDefaults } from '@bridgekeeper/engine/models';
import { beforeAll, describe, expect, test } from 'vitest';
import { SETTINGS } from '../settings/table.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { type GenerationFields, type SamplingChoices, samplingOf } from './sampling.ts';

let text: ModelText;

beforeAll(async () => {
  text = await openModelText(SETTINGS.model.default);
});

const sampling = (
  fields: GenerationFields = {},
  more: Partial<SamplingChoices> = {},
  samplingDefaults: SamplingDefaults = {},
) => {
  const none = { maxTokens: undefined, logprobs: undefined, promptLogprobs: undefined };
  const bannedTokenIds: number[] = [];
  const choices = { ...none, bannedTokenIds, room: 100, choice: 0, ...more };
  return samplingOf(fields, choices, { ...text, samplingDefaults, endTokens: [7, 8] });
};

describe('sampling parameters', () => {
  test('are OpenAI’s where nobody says anything', () => {
    expect(sampling()).toEqual({
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      logitBias: [],
      allowedTokenIds: undefined,
      bannedTokenIds: [],
      seed: undefined,
      maxTokens: 100,
      minTokens: 0,
      stopTokenIds: [7, 8],
      logprobs: undefined,
      promptLogprobs: undefined,
    });
  });

  const DEFAULTS = { temperature: 0.5, topK: 40, topP: 0.8, minP: 0.1, repetitionPenalty: 1.2 };

  test('are the model’s before OpenAI’s', () => {
    expect(sampling({}, {}, DEFAULTS)).toMatchObject(DEFAULTS);
  });

  test('are the request’s before the model’s, zeros too', () => {
    const fields = {
      temperature: 0,
      top_k: 3,
      top_p: 0.3,
      min_p: 0,
      repetition_penalty: 1,
      presence_penalty: -1,
      frequency_penalty: 0.5,
      min_tokens: 4,
    };
    expect(sampling(fields, { logprobs: 2, promptLogprobs: 3 }, DEFAULTS)).toMatchObject({
      temperature: 0,
      topK: 3,
      topP: 0.3,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: -1,
      frequencyPenalty: 0.5,
      minTokens: 4,
      logprobs: 2,
      promptLogprobs: 3,
    });
  });

  test('turn top_k off by 0 and by -1', () => {
    expect(sampling({ top_k: -1 }, {}, DEFAULTS).topK).toBe(0);
    expect(sampling({ top_k: 0 }, {}, DEFAULTS).topK).toBe(0);
    expect(sampling({}, {}, { topK: -1 }).topK).toBe(0);
  });

  test('fit what is left of the context', () => {
    expect(sampling({}, { maxTokens: 99 }).maxTokens).toBe(99);
    expect(sampling({}, { maxTokens: 101 }).maxTokens).toBe(100);
    expect(sampling({}, { maxTokens: 0 }).maxTokens).toBe(0);
    // The engine says that the prompt is too long: not that no tokens were asked for.
    for (const room of [1, 0, -5]) expect(sampling({}, { room }).maxTokens).toBe(1);
  });

  test('count seeds up from choice to choice, and wrap', () => {
    expect(sampling({ seed: 5 }, { choice: 2 }).seed).toBe(7n);
    expect(sampling({ seed: 0 }).seed).toBe(0n);
    expect(sampling({ seed: -2 }).seed).toBe(2n ** 64n - 2n);
    expect(sampling({ seed: -2 }, { choice: 2 }).seed).toBe(0n);
    expect(sampling({ seed: 2n ** 63n - 1n }, { choice: 1 }).seed).toBe(2n ** 63n);
    for (const choice of [0, 1]) expect(sampling({ seed: -1 }, { choice }).seed).toBeUndefined();
    expect(sampling({ seed: null }).seed).toBeUndefined();
  });

  test('name each stop token once, and the model’s own unless they are ignored', () => {
    expect(sampling({ stop_token_ids: [8, 9, 9] }).stopTokenIds).toEqual([7, 8, 9]);
    expect(sampling({ stop_token_ids: [8], ignore_eos: true }).stopTokenIds).toEqual([8]);
    expect(sampling({ ignore_eos: true }).stopTokenIds).toEqual([]);
  });

  test('take biases by token id, in decimal', () => {
    const { logitBias } = sampling({ logit_bias: { 5: 1.5, 6: -2 } });
    expect(logitBias).toEqual([
      [5, 1.5],
      [6, -2],
    ]);
    for (const key of ['x', '-1', '1.5', '', '12345678901']) {
      const wrong = () => sampling({ logit_bias: { [key]: 1 } });
      expect(wrong).toThrow(EngineError);
      expect(wrong).toThrow(
        expect.objectContaining({ code: 'bad-request', parameter: 'logit_bias' }),
      );
      expect(wrong).toThrow('logit_bias keys must be token ids');
    }
  });
});
