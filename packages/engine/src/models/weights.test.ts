import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { smallConfig } from '../selftest/model-folder.ts';
import { parameterCount } from '../testing/parameter-count.ts';
import { describeModel } from './describe.ts';
import { readModelSpec } from './folder.ts';
import { countParameters, describeModelSpec } from './summary.ts';
import { weightTensors } from './weights.ts';

const GPT_OSS_20B = new URL('../../configs/gpt-oss-20b', import.meta.url);

function planOf(config: Record<string, unknown>) {
  const plan = weightTensors(describeModel(smallConfig({ config })));
  return new Map(plan.map((tensor) => [tensor.label, tensor]));
}

describe('weight plan', () => {
  test('stacks q, k and v, and gate and up', () => {
    const plan = planOf({});
    const prefix = 'model.layers.1';
    expect(plan.get('layers.1.qkv')).toEqual({
      destination: { role: 'qkv', layer: 1 },
      label: 'layers.1.qkv',
      kind: 'matrix',
      format: 'element',
      scales: null,
      shape: [128, 64],
      elements: 8192,
      sources: [
        { name: `${prefix}.self_attn.q_proj.weight`, shape: [64, 64], elementOffset: 0 },
        { name: `${prefix}.self_attn.k_proj.weight`, shape: [32, 64], elementOffset: 4096 },
        { name: `${prefix}.self_attn.v_proj.weight`, shape: [32, 64], elementOffset: 6144 },
      ],
    });
    expect(plan.get('layers.0.gateUp')?.sources).toEqual([
      { name: 'model.layers.0.mlp.gate_proj.weight', shape: [96, 64], elementOffset: 0 },
      { name: 'model.layers.0.mlp.up_proj.weight', shape: [96, 64], elementOffset: 6144 },
    ]);
  });

  test('has what the architecture has', () => {
    const names = (config: Record<string, unknown>) =>
      [...planOf(config).keys()].filter((name) => !name.startsWith('layers.1'));
    const common = ['inputNorm', 'qkv', 'output', 'postNorm', 'gateUp', 'down'];
    const layer = (roles: readonly string[]) => roles.map((role) => `layers.0.${role}`);
    expect(names({})).toEqual(['embed', ...layer(common), 'finalNorm', 'head']);
    expect(names({ tie_word_embeddings: true })).not.toContain('head');
    expect(names({ architectures: ['Qwen2ForCausalLM'] })).toContain('layers.0.qkvBias');
    const qwen3 = names({ architectures: ['Qwen3ForCausalLM'] });
    expect(qwen3).toEqual(expect.arrayContaining(layer(['queryNorm', 'keyNorm'])));
    const biased = names({ attention_bias: true, mlp_bias: true });
    const biases = layer(['qkvBias', 'outputBias', 'gateUpBias', 'downBias']);
    expect(biased).toEqual(expect.arrayContaining(biases));
  });

  test('counts the parameters that a token is computed with', () => {
    const config = { architectures: ['Qwen3MoeForCausalLM'], tie_word_embeddings: true };
    const experts = { num_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 32 };
    const { total, active } = countParameters(
      describeModel(smallConfig({ config: { ...config, ...experts } })),
    );
    expect(total - active).toBe(2 * 6 * 3 * 32 * 64);
  });

  test('counts parameters', () => {
    const spec = describeModel(smallConfig({ config: { tie_word_embeddings: true } }));
    const perLayer = 2 * 64 + 128 * 64 + 64 * 64 + 2 * 96 * 64 + 64 * 96;
    expect(parameterCount(spec)).toBe(2 * perLayer + 64 + spec.vocabularySize * 64);
  });
});

test('a model is described by its kinds of layers, parameters and bytes', async () => {
  const spec = await readModelSpec(fileURLToPath(GPT_OSS_20B));
  const sizes = { weightBytes: 12.8 * 2 ** 30, kvBytesPerToken: 48 * 1024, stateBytesPerRow: 0 };
  expect(describeModelSpec(spec, { ...sizes, kvFormat: 'element' })).toEqual([
    'GptOssForCausalLM: 12 layers of attention to 128 tokens and 4 of 32 experts in MXFP4, ' +
      '12 layers of full attention and 4 of 32 experts in MXFP4',
    '20.91 billion, 3.61 billion active parameters, 12.80 GiB at rest; KV 48.0 KiB for each token',
  ]);
});
