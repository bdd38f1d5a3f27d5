import { expect, test } from 'vitest';
import { PlanError } from '../errors.ts';
import { knownModel, knownModelNames, readPlannedModel } from './model.ts';

const billions = (count: number) => count / 1e9;

function failure(action: () => unknown): PlanError {
  try {
    action();
  } catch (error) {
    if (error instanceof PlanError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** As published with each model, in billions. */
const PUBLISHED: Readonly<Record<string, readonly [total: number, active: number]>> = {
  'gpt-oss-20b': [20.9, 3.6],
  'gpt-oss-120b': [116.8, 5.1],
  'Qwen3-0.6B': [0.6, 0.6],
  'Qwen3-8B': [8.2, 7.6],
  'Qwen3-30B-A3B': [30.5, 3.0],
  'Qwen3-235B-A22B': [235, 21.6],
  'Llama-3.1-8B': [8.03, 7.5],
  'Llama-3.3-70B': [70.6, 69.5],
  'Qwen3.6-27B': [27, 25.7],
  'Gemma-4-31B': [30.7, 30.7],
  'Mistral-Small-3.1-24B': [23.6, 22.9],
  'DeepSeek-V3': [671, 37],
  'Kimi-K2': [1026, 32],
};

test.each(Object.entries(PUBLISHED))('%s has as many parameters as published', (name, sizes) => {
  const model = knownModel(name);
  expect(Math.abs(billions(model.parameters) / sizes[0] - 1)).toBeLessThan(0.03);
  expect(Math.abs(billions(model.activeParameters) / sizes[1] - 1)).toBeLessThan(0.06);
});

test('every known model can be read, and says where its sizes are from', () => {
  expect(knownModelNames().length).toBeGreaterThan(15);
  for (const name of knownModelNames()) {
    const model = knownModel(name);
    expect(model.source).not.toBe('');
    expect(model.path).toMatch(/^[\w.-]+\/[\w.-]+$/);
    expect(model.weightBytes).toBeGreaterThan(0.5 * model.parameters);
    expect(model.weightBytes).toBeLessThan(2.1 * model.parameters);
  }
});

test('FP8 halves weights, and MXFP4 experts take 4.25 bits', () => {
  const ratio = knownModel('Qwen3-8B-FP8').weightBytes / knownModel('Qwen3-8B').weightBytes;
  expect(ratio).toBeGreaterThan(0.5);
  expect(ratio).toBeLessThan(0.6);
  // 117e9 parameters in some 65 GB.
  expect(knownModel('gpt-oss-120b').weightBytes / 1e9).toBeCloseTo(65.2, 0);
});

test('a name is found without its owner, and in any spelling', () => {
  for (const name of ['Qwen/Qwen3-8B', 'qwen3_8b', 'meta-llama/Llama-3.3-70B-Instruct']) {
    expect(knownModel(name).parameters).toBeGreaterThan(8e9);
  }
});

test('an unknown name is refused with the nearest', () => {
  const error = failure(() => knownModel('qwen3-9b'));
  expect(error.code).toBe('unknown-model');
  expect(error.message).toContain('Qwen3-8B');
  expect(failure(() => knownModel('gpt-oss')).message).toMatch(/Nearest: gpt-oss-20b/);
});

test('windows and recurrent layers keep no more KV however long a request is', () => {
  // 18 layers of 8 heads of 64 values keep every token, and 18 keep 128.
  const oss = knownModel('gpt-oss-120b');
  expect(oss.kvBytesPerToken).toBe(18 * 2 * 8 * 64 * 2);
  expect(oss.stateBytesPerRequest).toBe(18 * 128 * 2 * 8 * 64 * 2);
  const qwen = knownModel('Qwen3.6-27B');
  expect(qwen.kvBytesPerToken).toBe(16 * 2 * 4 * 256 * 2);
  expect(qwen.stateBytesPerRequest).toBe(48 * 48 * 128 * 128 * 4);
  for (const name of ['DeepSeek-V3', 'kimi-k2']) {
    expect(knownModel(name).kvBytesPerToken).toBe(61 * 576 * 2);
    expect(knownModel(name).isKvDivided).toBe(false);
  }
});

test('a config.json of another architecture is read by its sizes, with what is not alike', () => {
  const config = { architectures: ['OtherForCausalLM'], hidden_size: 1024, num_hidden_layers: 4 };
  const whole = { ...config, num_attention_heads: 16, vocab_size: 1000, intermediate_size: 4096 };
  const model = readPlannedModel('other', '/models/other', 'config.json', whole);
  // Four attention products of 1024 x 1024, three of 1024 x 4096, and the table twice.
  const weights = 4 * (4 * 1024 * 1024 + 3 * 1024 * 4096) + 2 * 1000 * 1024;
  expect(Math.abs(model.parameters / weights - 1)).toBeLessThan(0.01);
  expect(model.approximations).toHaveLength(1);
});

test.each([
  [[], /one JSON object/],
  [{}, /"hidden_size" is missing/],
  [{ hidden_size: 'wide' }, /"hidden_size" must be a whole number/],
  [{ architectures: ['LlamaForCausalLM'], hidden_size: 0 }, /hidden_size/],
])('%j is refused as a config.json', (config, message) => {
  const error = failure(() => readPlannedModel('x', '/x', 'x/config.json', config));
  expect(error.code).toBe('bad-model');
  expect(error.message).toMatch(message);
  expect(error.message).toContain('x/config.json');
});
