import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { weightBytes } from '../loader/tensors/layout.ts';
import { smallConfig } from '../selftest/model-folder.ts';
import { describeModel } from './describe.ts';
import { readModelSpec } from './folder.ts';
import { rankSpec } from './rank-slice.ts';
import { describeModelSpec } from './summary.ts';
import { weightTensors } from './weights.ts';

const specOf = (quantization: unknown, config: Record<string, unknown> = {}) =>
  describeModel(smallConfig({ config: { quantization_config: quantization, ...config } }));

/** Qwen2.5-7B-Instruct-AWQ's. */
const AWQ = {
  bits: 4,
  group_size: 32,
  modules_to_not_convert: null,
  quant_method: 'awq',
  version: 'gemm',
  zero_point: true,
};
/** Qwen2.5-7B-Instruct-GPTQ-Int4's. */
const GPTQ = {
  batch_size: 1,
  bits: 4,
  block_name_to_quantize: null,
  cache_block_outputs: true,
  damp_percent: 0.01,
  dataset: null,
  desc_act: false,
  exllama_config: { version: 1 },
  group_size: 32,
  modules_in_block_to_quantize: null,
  quant_method: 'gptq',
  sym: true,
  tokenizer: null,
  true_sequential: true,
  use_cuda_fp16: false,
  use_exllama: true,
};
const WEIGHTS = {
  actorder: null,
  block_structure: null,
  dynamic: false,
  group_size: 32,
  num_bits: 4,
  observer: 'minmax',
  observer_kwargs: {},
  strategy: 'group',
  symmetric: true,
  type: 'int',
};
/** As llm-compressor writes it. */
const packed = (weights: object = {}, more: object = {}) => ({
  quant_method: 'compressed-tensors',
  format: 'pack-quantized',
  quantization_status: 'compressed',
  config_groups: {
    group_0: {
      input_activations: null,
      output_activations: null,
      targets: ['Linear'],
      weights: { ...WEIGHTS, ...weights },
    },
  },
  global_compression_ratio: 1.5,
  ignore: ['lm_head'],
  kv_cache_scheme: null,
  ...more,
});
const COMMON = { method: 'int4', group: 32, hasZeros: true, zeroOffset: 0, targets: [] };

describe('quantization_config of weights in 4 bits', () => {
  test.each<[string, unknown, unknown]>([
    ['AWQ', AWQ, { ...COMMON, order: 'awq', ignored: [] }],
    [
      'AWQ but for some',
      { ...AWQ, version: 'GEMM', group_size: -1, modules_to_not_convert: ['model.layers.0'] },
      { ...COMMON, order: 'awq', group: null, ignored: ['model.layers.0'] },
    ],
    ['GPTQ', GPTQ, { ...COMMON, order: 'gptq', zeroOffset: 1, ignored: [] }],
    [
      'GPTQ v2',
      { ...GPTQ, sym: false, checkpoint_format: 'gptq_v2' },
      { ...COMMON, order: 'gptq', ignored: [] },
    ],
    ['int4', packed(), { ...COMMON, order: 'rows', hasZeros: false, ignored: ['lm_head'] }],
    [
      'int4 with zero points, in the order of columns',
      packed({ symmetric: false, actorder: 'static' }),
      { ...COMMON, order: 'rows', ignored: ['lm_head'] },
    ],
    [
      'int4 by channel, of older tools',
      packed({ strategy: 'channel', group_size: null }, { quantization_status: 'frozen' }),
      { ...COMMON, order: 'rows', group: null, hasZeros: false, ignored: ['lm_head'] },
    ],
  ])('%s', (_, quantization, expected) => {
    expect(specOf(quantization).quantization).toEqual(expected);
  });

  test.each<[unknown, string, RegExp]>([
    [{ ...AWQ, bits: 8 }, 'unsupported', /"bits" is 8; supported: 4/],
    [{ ...AWQ, bits: undefined }, 'malformed', /"bits" is missing/],
    [{ ...AWQ, group_size: 48 }, 'unsupported', /"group_size" is 48; supported: multiples of 32/],
    [{ ...AWQ, group_size: 0 }, 'malformed', /"group_size" is 0/],
    [{ ...AWQ, group_size: undefined }, 'malformed', /"group_size" is missing/],
    [{ ...AWQ, version: 'gemv' }, 'unsupported', /"version" is "gemv"; supported: gemm/],
    [{ ...AWQ, version: 'exllama' }, 'unsupported', /"version" is "exllama"/],
    [{ ...AWQ, zero_point: false }, 'unsupported', /"zero_point" is false/],
    [{ ...AWQ, pack_order: 'new' }, 'unsupported', /"pack_order" is "new", which is not known/],
    [{ ...GPTQ, desc_act: true }, 'unsupported', /"desc_act" is true; supported: false/],
    [{ ...GPTQ, bits: 3 }, 'unsupported', /"bits" is 3/],
    [{ ...GPTQ, sym: 'yes' }, 'malformed', /"sym"/],
    [{ ...GPTQ, checkpoint_format: 'marlin' }, 'unsupported', /"checkpoint_format" is "marlin"/],
    [{ ...GPTQ, is_marlin_format: true }, 'unsupported', /"is_marlin_format" is true/],
    [{ ...GPTQ, lm_head: true }, 'unsupported', /"lm_head" is true/],
    [{ ...GPTQ, dynamic: { '-:.*': {} } }, 'unsupported', /"dynamic" is/],
    [{ ...GPTQ, modules_in_block_to_quantize: [['q']] }, 'unsupported', /modules_in_block/],
    [{ ...GPTQ, pack_dtype: 'int8' }, 'unsupported', /"pack_dtype" is "int8"; supported: int32/],
    [{ ...GPTQ, codebook: 2 }, 'unsupported', /"codebook" is 2, which is not known/],
    [packed({ num_bits: 8 }), 'unsupported', /"num_bits" is 8/],
    [packed({ type: 'float' }), 'unsupported', /"type" is "float"; supported: int/],
    [packed({ actorder: 'group' }), 'unsupported', /"actorder" is "group"/],
    [packed({ actorder: true }), 'unsupported', /"actorder" is true/],
    [packed({ dynamic: true }), 'unsupported', /"dynamic" is true/],
    [packed({ strategy: 'tensor' }), 'unsupported', /"strategy" is "tensor"; supported: group/],
    [packed({ group_size: 24 }), 'unsupported', /"group_size" is 24/],
    [packed({ rotation: 1 }), 'unsupported', /"rotation" is 1, which is not known/],
    [packed({}, { extra: 1 }), 'unsupported', /"extra" is 1, which is not known/],
    [packed({}, { sparsity_config: { format: 'sparse' } }), 'unsupported', /sparse/],
  ])('refuses %j', (quantization, code, message) => {
    expect(() => specOf(quantization)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
    );
  });

  test('of experts is one matrix of all, and routers are as they were', () => {
    const experts = { num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 32 };
    const moe = { architectures: ['Qwen3MoeForCausalLM'], ...experts };
    const tensors = weightTensors(specOf(AWQ, moe));
    const ofLayer = (role: string) => tensors.find(({ label }) => label === `layers.0.${role}`);
    expect(ofLayer('router')).toMatchObject({ format: 'element', shape: [4, 64] });
    const gateUp = ofLayer('expertGateUp')!;
    expect(gateUp).toMatchObject({ format: 'int4', shape: [4 * 2 * 32, 64] });
    expect(gateUp.int4).toHaveLength(8);
    expect(gateUp.int4![3]).toMatchObject({
      module: 'model.layers.0.mlp.experts.1.up_proj',
      firstOutput: 3 * 32,
    });
  });

  test('of what is multiplied head by head is refused, and so are experts in one tensor', () => {
    const latent = {
      architectures: ['DeepseekV3ForCausalLM'],
      hidden_size: 64,
      num_attention_heads: 2,
      intermediate_size: 64,
      q_lora_rank: 32,
      kv_lora_rank: 32,
      qk_nope_head_dim: 16,
      qk_rope_head_dim: 16,
      v_head_dim: 16,
      first_k_dense_replace: 1,
      num_hidden_layers: 2,
      moe_intermediate_size: 32,
      n_routed_experts: 2,
      num_experts_per_tok: 1,
      n_group: 1,
      topk_group: 1,
    };
    const whole = specOf(packed(), latent);
    expect(() => weightTensors(whole)).toThrow(/kv_b_proj in compressed-tensors int4; supported/);
    const kept = specOf(packed({}, { ignore: ['lm_head', 're:.*self_attn.*'] }), latent);
    expect(weightTensors(kept).some(({ format }) => format === 'int4')).toBe(true);
  });

  test('of a part of a stack is refused, and of a rank', () => {
    const part = { ...AWQ, modules_to_not_convert: ['k_proj'] };
    expect(() => weightTensors(specOf(part))).toThrow(/q_proj in int4 but not .*k_proj/);
    expect(() => rankSpec(specOf(GPTQ), { of: 2, wholeExperts: false })).toThrow(
      /in GPTQ are not divided among GPUs/,
    );
  });

  test('of sizes that fill no groups or words is refused by the name of the module', () => {
    const wide = { ...AWQ, group_size: 64 };
    expect(() => weightTensors(specOf(wide))).toThrow(
      'model.layers.0.mlp.down_proj in AWQ has 96 inputs, which groups of 64 do not divide',
    );
    const odd = () => weightTensors(specOf(packed(), { intermediate_size: 100 }));
    expect(odd).toThrow(/gate_proj in compressed-tensors int4 has 100 outputs/);
    const rows = packed({ strategy: 'channel', group_size: null });
    const narrow = () => weightTensors(specOf(rows, { intermediate_size: 88 }));
    expect(narrow).toThrow(/down_proj in .* has 88 inputs, which must be a multiple of 32/);
  });
});

test('Qwen3-8B-AWQ takes half a byte for a weight, and a word for a group', async () => {
  const folder = new URL('../../../../packages/engine/configs/qwen3-8b-awq', import.meta.url);
  const spec = await readModelSpec(fileURLToPath(folder));
  const table = 2 * 151_936 * 4096 * 2;
  const layers = 36 * 4096 * (6144 + 4096 + 3 * 12_288);
  const norms = 36 * (2 * 4096 + 2 * 128) * 2 + 4096 * 2;
  const bytes = weightBytes(weightTensors(spec), 2);
  expect(bytes).toBe(table + layers / 2 + norms + (layers / 128) * 4);
  const sizes = { weightBytes: bytes, kvBytesPerToken: 147_456, kvFormat: 'element' } as const;
  expect(describeModelSpec(spec, { ...sizes, stateBytesPerRow: 0 })[1]).toBe(
    '8.19 billion parameters, 5.76 GiB at rest (AWQ, groups of 128); KV 144.0 KiB for each token',
  );
});
