import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hash32, openCpuDevice } from '@bridgekeeper/device';
import { E4M3_VALUES } from '@bridgekeeper/device/testing';
import { describe, expect, it, test } from 'vitest';
import type { EngineOptions } from './create.ts';
import { type ModelFolderOptions, writeModelFolder } from './selftest/model-folder.ts';
import { ReferenceModel } from './selftest/reference-model.ts';
import { DELTA_NETS } from './testing/delta-net-model.ts';
import { LATENT_MODEL } from './testing/latent-model.ts';
import { engineOptions, generate, request, withEngine } from './testing/run.ts';

const SPARSE = {
  num_experts: 4,
  num_experts_per_tok: 2,
  moe_intermediate_size: 48,
  shared_expert_intermediate_size: 32,
};

const GEMMA4 = {
  hidden_act: undefined,
  hidden_size_per_layer_input: 0,
  global_head_dim: 32,
  sliding_window: 9,
  layer_types: ['sliding_attention', 'full_attention'],
  rope_theta: undefined,
  rope_parameters: {
    full_attention: { rope_type: 'proportional', rope_theta: 1e4, partial_rotary_factor: 0.5 },
    sliding_attention: { rope_type: 'default', rope_theta: 1e3 },
  },
};

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
  [
    'Mistral within a model that sees',
    { architecture: 'Mistral3ForConditionalGeneration', config: { rope_theta: 1e6 } },
  ],
  ['Phi-3, modules fused', { architecture: 'Phi3ForCausalLM', config: { head_dim: 24 } }],
  [
    'Phi-3 with a window',
    { architecture: 'Phi3ForCausalLM', config: { sliding_window: 9, num_key_value_heads: 4 } },
  ],
  [
    'SmolLM3, a layer without positions',
    {
      architecture: 'SmolLM3ForCausalLM',
      tiedHead: true,
      config: { num_hidden_layers: 3, no_rope_layers: [1, 0, 1] },
    },
  ],
  [
    'Olmo 3, a window in its first layer',
    {
      architecture: 'Olmo3ForCausalLM',
      config: { sliding_window: 9, layer_types: ['sliding_attention', 'full_attention'] },
    },
  ],
  [
    'Granite 3',
    {
      architecture: 'GraniteForCausalLM',
      tiedHead: true,
      config: {
        embedding_multiplier: 12,
        attention_multiplier: 0.1,
        residual_multiplier: 0.22,
        logits_scaling: 0.5,
      },
    },
  ],
  [
    'Ministral 3 within a model that sees',
    {
      architecture: 'Mistral3ForConditionalGeneration',
      config: {
        rope_theta: undefined,
        rope_parameters: {
          rope_type: 'yarn',
          rope_theta: 1e4,
          factor: 4,
          original_max_position_embeddings: 16,
          mscale: 1,
          mscale_all_dim: 1,
          llama_4_scaling_beta: 0.5,
        },
      },
    },
  ],
  [
    'GLM-4.5, dense first',
    {
      architecture: 'Glm4MoeForCausalLM',
      config: {
        n_routed_experts: 5,
        num_experts_per_tok: 2,
        moe_intermediate_size: 48,
        routed_scaling_factor: 1.5,
        partial_rotary_factor: 0.5,
      },
    },
  ],
  ['DeepSeek V3, queries of the layer itself, one group', LATENT_MODEL],
  [
    'MiniMax M2',
    {
      architecture: 'MiniMaxM2ForCausalLM',
      config: { num_local_experts: 4, num_experts_per_tok: 2, rotary_dim: 8 },
    },
  ],
  [
    'Gemma 3, a window in its first layer, within a model that sees',
    {
      architecture: 'Gemma3ForConditionalGeneration',
      tiedHead: true,
      config: {
        hidden_act: undefined,
        sliding_window: 9,
        layer_types: ['sliding_attention', 'full_attention'],
        query_pre_attn_scalar: 20,
        final_logit_softcapping: 3.5,
        rope_theta: undefined,
        rope_parameters: {
          full_attention: { rope_type: 'linear', factor: 2, rope_theta: 1e4 },
          sliding_attention: { rope_type: 'default', rope_theta: 1e3 },
        },
      },
    },
  ],
  [
    'Gemma 4, values that are keys, within a model that sees',
    {
      architecture: 'Gemma4ForConditionalGeneration',
      tiedHead: true,
      config: {
        ...GEMMA4,
        attention_k_eq_v: true,
        num_global_key_value_heads: 1,
        global_head_dim: 24,
        final_logit_softcapping: 3.5,
      },
    },
  ],
  [
    'Gemma 4, layers at the end without keys and values of their own',
    {
      architecture: 'Gemma4ForCausalLM',
      tiedHead: true,
      config: {
        ...GEMMA4,
        num_hidden_layers: 4,
        layer_types: [...GEMMA4.layer_types, ...GEMMA4.layer_types],
        num_kv_shared_layers: 2,
        use_double_wide_mlp: true,
      },
    },
  ],
  [
    'Gemma 4, inputs for each layer',
    {
      architecture: 'Gemma4ForCausalLM',
      tiedHead: true,
      config: { ...GEMMA4, hidden_size_per_layer_input: 12, vocab_size_per_layer_input: 330 },
    },
  ],
  [
    'Gemma 4, experts beside a dense product',
    {
      architecture: 'Gemma4ForCausalLM',
      tiedHead: true,
      config: {
        ...GEMMA4,
        enable_moe_block: true,
        num_experts: 5,
        top_k_experts: 2,
        moe_intermediate_size: 48,
      },
    },
  ],
  ['Qwen3-Next', { architecture: 'Qwen3NextForCausalLM', config: { ...DELTA_NETS, ...SPARSE } }],
  ['Qwen3.5', { architecture: 'Qwen3_5ForCausalLM', tiedHead: true, config: DELTA_NETS }],
  [
    'Qwen3.5-MoE within a model that sees',
    { architecture: 'Qwen3_5MoeForConditionalGeneration', config: { ...DELTA_NETS, ...SPARSE } },
  ],
  ['Qwen2', { architecture: 'Qwen2ForCausalLM', config: { head_dim: 32 } }],
  ['Qwen3', { architecture: 'Qwen3ForCausalLM', config: { head_dim: 24, rope_theta: 1e6 } }],
  [
    'Qwen3 with a window in its last layer',
    {
      architecture: 'Qwen3ForCausalLM',
      config: {
        use_sliding_window: true,
        sliding_window: 11,
        max_window_layers: 1,
        layer_types: ['full_attention', 'sliding_attention'],
      },
    },
  ],
];

/** `quantization_config` of a compressed-tensors checkpoint with these weights. */
function compressed(weights: Record<string, unknown>, ignore: readonly string[] = ['lm_head']) {
  const group = { targets: ['Linear'], weights: { num_bits: 8, type: 'float', ...weights } };
  return { quant_method: 'compressed-tensors', config_groups: { group_0: group }, ignore };
}

const FP8_CASES: readonly (readonly [string, ModelFolderOptions])[] = [
  [
    'Qwen3 in blocks of 128 x 128 that are larger than some weights',
    {
      architecture: 'Qwen3ForCausalLM',
      quantization: { quant_method: 'fp8', fmt: 'e4m3', weight_block_size: [128, 128] },
      config: { hidden_size: 192, intermediate_size: 160, head_dim: 24 },
    },
  ],
  [
    'Llama in blocks with partial ones at all edges',
    {
      quantization: { quant_method: 'fp8', weight_block_size: [48, 40] },
      scaleType: 'bf16',
      config: { attention_bias: true, mlp_bias: true },
    },
  ],
  [
    'Qwen2, one scale a tensor, but for some',
    {
      architecture: 'Qwen2ForCausalLM',
      quantization: {
        quant_method: 'fp8',
        activation_scheme: 'static',
        modules_to_not_convert: ['lm_head', 'model.layers.0.self_attn', 'mlp.down_proj'],
      },
    },
  ],
  [
    'Mistral, a scale for each channel',
    {
      architecture: 'MistralForCausalLM',
      quantization: compressed({ strategy: 'channel' }),
    },
  ],
  [
    'Phi-3, fused modules in blocks',
    {
      architecture: 'Phi3ForCausalLM',
      quantization: { quant_method: 'fp8', weight_block_size: [16, 32] },
    },
  ],
  [
    'Llama, tied, compressed in blocks',
    {
      tiedHead: true,
      quantization: compressed({ strategy: 'block', block_structure: [32, 16] }, [
        're:.*layers\\.1\\.mlp',
        'lm_head',
      ]),
    },
  ],
];

const PACKED = { num_bits: 4, type: 'int', strategy: 'group', group_size: 32 };

const INT4_CASES: readonly (readonly [string, ModelFolderOptions])[] = [
  [
    'Qwen3 in AWQ',
    {
      architecture: 'Qwen3ForCausalLM',
      quantization: { quant_method: 'awq', bits: 4, group_size: 32, zero_point: true },
    },
  ],
  [
    'Qwen2 in AWQ, a group for each row, but for some',
    {
      architecture: 'Qwen2ForCausalLM',
      quantization: {
        quant_method: 'awq',
        bits: 4,
        group_size: -1,
        version: 'gemm',
        modules_to_not_convert: ['model.layers.0.self_attn', 'down_proj'],
      },
    },
  ],
  [
    'Qwen2 in GPTQ',
    {
      architecture: 'Qwen2ForCausalLM',
      quantization: { quant_method: 'gptq', bits: 4, group_size: 32, desc_act: false, sym: true },
    },
  ],
  [
    'Llama in GPTQ v2, tied',
    {
      tiedHead: true,
      quantization: {
        quant_method: 'gptq',
        bits: 4,
        group_size: 32,
        sym: false,
        checkpoint_format: 'gptq_v2',
      },
    },
  ],
  [
    'Llama compressed without zero points',
    {
      config: { attention_bias: true, mlp_bias: true },
      quantization: {
        ...compressed({ ...PACKED, symmetric: true }, ['re:.*layers\\.1\\.mlp', 'lm_head']),
        format: 'pack-quantized',
      },
    },
  ],
  [
    'Mistral compressed, with zero points in f16',
    {
      architecture: 'MistralForCausalLM',
      scaleType: 'f16',
      quantization: {
        ...compressed({ ...PACKED, symmetric: false }),
        format: 'pack-quantized',
      },
    },
  ],
  [
    'Phi-3 in AWQ, fused modules',
    {
      architecture: 'Phi3ForCausalLM',
      quantization: { quant_method: 'awq', bits: 4, group_size: 32, zero_point: true },
    },
  ],
];

const OUTPUT_TOKENS = 8;

interface Run {
  readonly folder: ModelFolderOptions;
  readonly kvFormat: EngineOptions['kvFormat'];
  readonly roundKv?: (value: number) => number;
  /** Decimals of log-probabilities that must agree. */
  readonly decimals: number;
  readonly capturedPrompts?: number;
}

/** Holds prompt, sampled and alternative tokens' log-probabilities against the reference's. */
async function expectAgreement(run: Run) {
  const { folder: options, kvFormat, roundKv, decimals, capturedPrompts } = run;
  const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-architecture-'));
  try {
    await writeModelFolder(folder, { ...options, storedType: 'f32' });
    const reference = new ReferenceModel(folder, roundKv === undefined ? {} : { roundKv });
    const prompt = Array.from({ length: 37 }, (_, i) => (hash32(4, 4, i) >>> 0) % 250);
    const device = await openCpuDevice({ threads: 1 });
    // Prompts cross chunks (of 16 tokens) and pages (of 8).
    const sizes = { maxBatchTokens: 16, pageTokens: 8, maxModelTokens: 64, maxRows: 20 };
    const sampling = { maxTokens: OUTPUT_TOKENS, logprobs: 5, promptLogprobs: 3 };
    const { tokens, events } = await withEngine(
      engineOptions(device, {
        model: folder,
        policy: 'resident',
        kvFormat,
        capturedPrompts,
        ...sizes,
      }),
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
      expect(line.logprob).toBeCloseTo(expected[position]![all[position + 1]!]!, decimals);
      for (const { token, logprob } of line.top) {
        expect(logprob).toBeCloseTo(expected[position]![token]!, decimals);
      }
    });
    for (const [index, token] of tokens.entries()) {
      const line = expected[prompt.length - 1 + index]!;
      const best = line.reduce((most, value) => Math.max(most, value));
      expect(line[token]).toBeCloseTo(best, decimals);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe('every architecture agrees with a plain float64 model', () => {
  it.each(CASES)('%s', async (_, folder) => {
    await expectAgreement({ folder, kvFormat: 'element', decimals: 4 });
  });

  // The last five tokens of a prompt are a graph of eight lines.
  it.each(CASES)('%s, prompts captured', async (_, folder) => {
    await expectAgreement({ folder, kvFormat: 'element', decimals: 4, capturedPrompts: 16 });
  });
});

describe('FP8 weights agree with a plain float64 model of their products with scales', () => {
  it.each(FP8_CASES)('%s', async (_, folder) => {
    await expectAgreement({ folder, kvFormat: 'element', decimals: 4 });
  });
});

test('a vector that all heads share is not stored in FP8', async () => {
  const [, folder] = CASES.find(([name]) => name.startsWith('DeepSeek'))!;
  const stored = expectAgreement({ folder, kvFormat: 'fp8-e4m3', decimals: 4 });
  await expect(stored).rejects.toThrow(/--kv-cache-dtype.*leave it out/);
});

describe('weights in 4 bits agree with a plain float64 model of what their tools mean', () => {
  it.each(INT4_CASES)('%s', async (_, folder) => {
    await expectAgreement({ folder, kvFormat: 'element', decimals: 4 });
  });
});

/** The nearest value of E4M3, found by search. */
function roundToE4m3(value: number): number {
  const distance = (candidate: number) => Math.abs(candidate - value);
  return E4M3_VALUES.reduce((best, next) => (distance(next) < distance(best) ? next : best), 0);
}

describe('FP8 KV agrees with a plain float64 model that rounds keys and values', () => {
  // What lies at the middle of two values may be rounded either way: fewer decimals agree.
  const common = { kvFormat: 'fp8-e4m3', roundKv: roundToE4m3, decimals: 2 } as const;

  it.each([CASES[0]!, CASES[2]!, CASES[4]!, FP8_CASES[0]!])('%s', async (_, folder) => {
    await expectAgreement({ folder, ...common });
  });

  it('and not with one that does not round', async () => {
    const [, folder] = CASES[0]!;
    const exact = expectAgreement({ folder, ...common, decimals: 3, roundKv: (value) => value });
    await expect(exact).rejects.toThrow(/to be close to/);
  });
});
