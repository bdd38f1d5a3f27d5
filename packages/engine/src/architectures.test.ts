import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash32, openCpuDevice } from '@bridgekeeper/device';
import { describe, expect, it } from 'vitest';
import { type ModelFolderOptions, writeModelFolder } from './testing/model-folder.ts';
import { ReferenceModel } from './testing/reference-model.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

const CASES: readonly (readonly [string, ModelFolderOptions])[] = [
  ['Llama, tied', { architecture: 'LlamaForCausalLM', tiedHead: true }],
  [
    'Llama with biases, heads of 80',
    {
      architecture: 'LlamaForCausalLM',
      config: { attention_bias: true, mlp_bias: true, head_dim: 80, num_key_value_heads: 4 },
    },
  ],
  [
    'Mistral with a window',
    { architecture: 'MistralForCausalLM', config: { sliding_window: 9, num_key_value_heads: 1 } },
  ],
  ['Qwen2', { architecture: 'Qwen2ForCausalLM', config: { head_dim: 32 } }],
  ['Qwen3', { architecture: 'Qwen3ForCausalLM', config: { head_dim: 24, rope_theta: 1e6 } }],
];

const OUTPUT_TOKENS = 8;

describe('every architecture agrees with a plain float64 model', () => {
  it.each(CASES)('%s', async (_, options) => {
    const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-architecture-'));
    try {
      await writeModelFolder(folder, { ...options, storedType: 'f32' });
      const reference = new ReferenceModel(folder);
      const prompt = Array.from({ length: 37 }, (_, i) => (hash32(4, 4, i) >>> 0) % 250);
      const device = await openCpuDevice({ threads: 1 });
      // Prompts cross chunks (of 16 tokens) and pages (of 8).
      const sizes = { maxBatchTokens: 16, pageTokens: 8, maxModelTokens: 64, maxRows: 20 };
      const sampling = { maxTokens: OUTPUT_TOKENS, logprobs: 5, promptLogprobs: 3 };
      const { tokens, events } = await withEngine(
        engineOptions(device, { model: folder, policy: 'resident', ...sizes }),
        (engine) => generate(engine, request('a', prompt, sampling)),
      );
      const expected = reference.logprobs([...prompt, ...tokens]);
      const lines = events.flatMap((event) => [
        ...(event.promptLogprobs ?? []),
        ...(event.logprobs ?? []),
      ]);
      expect(lines).toHaveLength(prompt.length - 1 + OUTPUT_TOKENS);
      const all = [...prompt, ...tokens];
      lines.forEach((line, position) => {
        expect(line.logprob).toBeCloseTo(expected[position]![all[position + 1]!]!, 4);
        for (const { token, logprob } of line.top) {
          expect(logprob).toBeCloseTo(expected[position]![token]!, 4);
        }
      });
      for (const [index, token] of tokens.entries()) {
        const line = expected[prompt.length - 1 + index]!;
        const best = line.reduce((most, value) => Math.max(most, value));
        expect(line[token]).toBeCloseTo(best, 4);
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
