import type { StorageFormat } from '@bridgekeeper/device';
import type { ModelFolderOptions } from './model-folder.ts';

type Family = 'Llama' | 'Mistral' | 'Qwen2' | 'Qwen3';
type Rope = 'plain' | 'linear' | 'llama3' | 'yarn';
type WeightFormat = 'bf16' | 'fp8 blocks' | 'fp8 tensors' | Int4Format;
type Int4Format =
  | 'awq'
  | 'gptq'
  | 'gptq v2 by row'
  | 'int4'
  | 'int4 in groups of 32'
  | 'experts in int4';

/** What distinguishes one random model from another. */
export interface Traits {
  readonly family: Family;
  readonly headDim: number;
  /** Query heads for each of two KV heads. */
  readonly ratio: number;
  readonly head: 'tied' | 'untied';
  readonly rope: Rope;
  readonly weights: WeightFormat;
  readonly kv: 'element' | 'fp8';
}

/** A small model of random weights, and the engine it is put in. Plain data. */
export interface RandomModel {
  /** The configuration in words. */
  readonly name: string;
  /** null: a model of the families that have a table of their own. */
  readonly traits: Traits | null;
  readonly folder: ModelFolderOptions;
  readonly kvFormat: StorageFormat;
  readonly pageTokens: number;
  readonly maxBatchTokens: number;
  /** One of the few for when all would take too long. */
  readonly quick: boolean;
}

/** Longest context of these models, prompt and output. */
export const RANDOM_MODEL_TOKENS = 256;

type Columns = readonly [
  family: Family,
  headDim: number,
  ratio: number,
  head: Traits['head'],
  rope: Rope,
  weights: WeightFormat,
  kv: Traits['kv'],
  quick?: 'quick',
];

/**
 * Every pair of traits occurs in some line (a test holds this), so that what goes wrong by two
 * traits together is found without their whole product.
 */
const TRAITS: readonly Columns[] = [
  ['Mistral', 64, 1, 'tied', 'plain', 'fp8 tensors', 'fp8', 'quick'],
  ['Qwen3', 80, 1, 'untied', 'linear', 'fp8 blocks', 'element', 'quick'],
  ['Qwen2', 96, 1, 'tied', 'yarn', 'fp8 tensors', 'fp8'],
  ['Llama', 128, 1, 'tied', 'llama3', 'bf16', 'fp8'],
  ['Qwen2', 64, 2, 'tied', 'llama3', 'bf16', 'element'],
  ['Qwen3', 80, 2, 'untied', 'linear', 'fp8 blocks', 'fp8'],
  ['Mistral', 96, 2, 'untied', 'plain', 'fp8 blocks', 'element'],
  ['Llama', 128, 2, 'untied', 'yarn', 'fp8 tensors', 'fp8'],
  ['Mistral', 64, 3, 'untied', 'yarn', 'fp8 blocks', 'fp8'],
  ['Qwen3', 80, 3, 'tied', 'plain', 'bf16', 'element'],
  ['Llama', 96, 3, 'tied', 'llama3', 'bf16', 'element', 'quick'],
  ['Qwen2', 128, 3, 'tied', 'linear', 'fp8 tensors', 'element'],
  ['Qwen3', 64, 4, 'tied', 'yarn', 'bf16', 'element'],
  ['Mistral', 80, 4, 'untied', 'llama3', 'fp8 blocks', 'element'],
  ['Qwen2', 96, 4, 'untied', 'linear', 'fp8 tensors', 'element'],
  ['Llama', 128, 4, 'untied', 'plain', 'fp8 blocks', 'fp8'],
  ['Llama', 64, 7, 'untied', 'linear', 'bf16', 'fp8'],
  ['Qwen2', 80, 7, 'untied', 'plain', 'fp8 tensors', 'element'],
  ['Mistral', 96, 7, 'tied', 'yarn', 'fp8 tensors', 'fp8'],
  ['Qwen3', 128, 7, 'untied', 'llama3', 'fp8 blocks', 'fp8'],
  ['Qwen2', 64, 8, 'tied', 'plain', 'fp8 blocks', 'fp8'],
  ['Llama', 80, 8, 'untied', 'yarn', 'bf16', 'element'],
  ['Qwen3', 96, 8, 'untied', 'llama3', 'fp8 tensors', 'fp8'],
  ['Mistral', 128, 8, 'untied', 'linear', 'bf16', 'element'],
];

const ARCHITECTURE: Readonly<Record<Family, string>> = {
  Llama: 'LlamaForCausalLM',
  Mistral: 'MistralForCausalLM',
  Qwen2: 'Qwen2ForCausalLM',
  Qwen3: 'Qwen3ForCausalLM',
};

/** What its family adds to a plain decoder. */
const PECULIARITY: Readonly<Record<Family, string>> = {
  Llama: '',
  Mistral: ' with a window',
  Qwen2: ' with biases',
  Qwen3: ' with head norms',
};

const KV_HEADS = 2;
/**
 * By query heads for each KV head: a multiple of all heads, on which transformers insists, mostly
 * off the blocks of 128, and larger where there are few heads.
 */
const HIDDEN: Readonly<Record<number, number>> = { 1: 192, 2: 192, 3: 192, 4: 128, 7: 224, 8: 128 };
/** Crosses pages, and is shorter than most contexts. */
const WINDOW = 41;
const THETA = 10_000;
const TRAINED_TOKENS = 64;

/** Contexts reach beyond what the stretched schemes take the model to have been trained on. */
const ROPES: Readonly<Record<Rope, Readonly<Record<string, unknown>>>> = {
  plain: { rope_type: 'default', rope_theta: THETA },
  linear: { rope_type: 'linear', rope_theta: THETA, factor: 2 },
  llama3: {
    rope_type: 'llama3',
    rope_theta: THETA,
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: TRAINED_TOKENS,
  },
  yarn: {
    rope_type: 'yarn',
    rope_theta: THETA,
    factor: RANDOM_MODEL_TOKENS / TRAINED_TOKENS,
    original_max_position_embeddings: TRAINED_TOKENS,
  },
};

const QUANTIZATIONS: Readonly<Record<WeightFormat, Pick<ModelFolderOptions, 'quantization'>>> = {
  bf16: {},
  'fp8 blocks': { quantization: { quant_method: 'fp8', weight_block_size: [128, 128] } },
  'fp8 tensors': { quantization: { quant_method: 'fp8', activation_scheme: 'dynamic' } },
  awq: { quantization: { quant_method: 'awq', bits: 4, group_size: 128, zero_point: true } },
  gptq: { quantization: { quant_method: 'gptq', bits: 4, group_size: 128, sym: false } },
  'gptq v2 by row': {
    quantization: {
      quant_method: 'gptq',
      bits: 4,
      group_size: -1,
      desc_act: false,
      checkpoint_format: 'gptq_v2',
    },
  },
  int4: { quantization: packed({ group_size: 128, symmetric: true }) },
  'int4 in groups of 32': { quantization: packed({ group_size: 32, symmetric: false }) },
  // As Kimi K2 has them.
  'experts in int4': {
    quantization: {
      ...packed({ group_size: 32, symmetric: true }),
      ignore: [
        'lm_head',
        're:.*self_attn.*',
        're:.*shared_experts.*',
        're:.*mlp\\.(gate|up|gate_up|down)_proj.*',
      ],
    },
  },
};

/** compressed-tensors: these weights in 4 bits. */
function packed(weights: Readonly<Record<string, unknown>>) {
  const all = { num_bits: 4, type: 'int', strategy: 'group', ...weights };
  return {
    quant_method: 'compressed-tensors',
    format: 'pack-quantized',
    config_groups: { group_0: { targets: ['Linear'], weights: all } },
    ignore: ['lm_head'],
  };
}

function describe({ family, headDim, ratio, head, rope, weights, kv }: Traits): string {
  const heads = `${ratio * KV_HEADS}/${KV_HEADS} heads of ${headDim}`;
  const kvWords = kv === 'fp8' ? 'KV fp8' : 'KV as computed';
  return (
    `${family}${PECULIARITY[family]}: ${heads}, ${head}, rope ${rope}, ` +
    `weights ${weights}, ${kvWords}`
  );
}

function randomModel(columns: Columns, index: number): RandomModel {
  const [family, headDim, ratio, head, rope, weights, kv, quick] = columns;
  const traits = { family, headDim, ratio, head, rope, weights, kv };
  const config = {
    hidden_size: HIDDEN[ratio]!,
    num_attention_heads: ratio * KV_HEADS,
    num_key_value_heads: KV_HEADS,
    head_dim: headDim,
    intermediate_size: index % 2 === 0 ? 320 : 256,
    vocab_size: 384,
    max_position_embeddings: rope === 'linear' ? RANDOM_MODEL_TOKENS / 2 : RANDOM_MODEL_TOKENS,
    rope_theta: undefined,
    rope_parameters: ROPES[rope],
    sliding_window: family === 'Mistral' ? WINDOW : null,
  };
  return {
    name: describe(traits),
    traits,
    folder: {
      architecture: ARCHITECTURE[family],
      tiedHead: head === 'tied',
      seed: index + 1,
      config,
      ...QUANTIZATIONS[weights],
      tokenizer: 'none',
    },
    kvFormat: kv === 'fp8' ? 'fp8-e4m3' : 'element',
    pageTokens: [16, 32, 64][index % 3]!,
    // Beyond 128 tokens FP8 weights take another path than below.
    maxBatchTokens: index % 2 === 0 ? 48 : 176,
    quick: quick === 'quick',
  };
}

/** What distinguishes one random model of the other families from another. */
interface FamilyTraits {
  readonly words: string;
  readonly architecture: string;
  readonly headDim: number;
  readonly ratio: number;
  readonly kv: Traits['kv'];
  readonly weights?: WeightFormat;
  readonly tied?: boolean;
  readonly quick?: boolean;
  readonly config: Readonly<Record<string, unknown>>;
}

const QWEN = 'Qwen3MoeForCausalLM';
const OSS = 'GptOssForCausalLM';
/** Without rounding to whole dimensions, as gpt-oss has it. */
const OSS_ROPE = { ...ROPES.yarn, truncate: false };

/** transformers takes 32000 for its padding where nothing is said. */
const PHI = { pad_token_id: 0, rope_parameters: ROPES.plain };

function qwen(experts: number, topK: number, more: Readonly<Record<string, unknown>> = {}) {
  const counts = { num_experts: experts, num_experts_per_tok: topK, moe_intermediate_size: 96 };
  return { ...counts, norm_topk_prob: true, rope_parameters: ROPES.plain, ...more };
}

function oss(experts: number, topK: number, window: number) {
  return {
    num_local_experts: experts,
    num_experts_per_tok: topK,
    intermediate_size: 128,
    swiglu_limit: 0.75,
    attention_bias: true,
    sliding_window: window,
    layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
    num_hidden_layers: 3,
    rope_parameters: OSS_ROPE,
  };
}

const HYBRID = {
  partial_rotary_factor: 0.25,
  rope_parameters: { ...ROPES.plain, partial_rotary_factor: 0.25 },
  linear_key_head_dim: 32,
  linear_value_head_dim: 64,
  linear_num_key_heads: 2,
  linear_num_value_heads: 4,
  num_hidden_layers: 4,
  full_attention_interval: 2,
};
const SHARED_EXPERT = { shared_expert_intermediate_size: 64 };

/** Windowed layers turn by another base, and are not stretched. */
const TWO_ROPES = {
  full_attention: ROPES.linear,
  sliding_attention: { rope_type: 'default', rope_theta: 1000 },
};
const WINDOWED_TYPES = ['sliding_attention', 'full_attention', 'sliding_attention'];

/** The last layer has full attention in every model of it. */
const GEMMA4 = {
  hidden_act: undefined,
  hidden_activation: 'gelu_pytorch_tanh',
  num_hidden_layers: 4,
  layer_types: [...WINDOWED_TYPES, 'full_attention'],
  global_head_dim: 512,
  hidden_size_per_layer_input: 0,
  intermediate_size: 320,
  rope_parameters: {
    full_attention: { ...ROPES.plain, rope_type: 'proportional', partial_rotary_factor: 0.25 },
    sliding_attention: { rope_type: 'default', rope_theta: 1000 },
  },
};

/**
 * Odd numbers of experts, one to eight for a token, windows shorter and longer than prompts; fused
 * modules; layers without positions.
 */
const FAMILIES: readonly FamilyTraits[] = [
  {
    words: 'Qwen3-MoE, 2 of 5 experts',
    architecture: QWEN,
    headDim: 64,
    ratio: 2,
    kv: 'element',
    tied: true,
    quick: true,
    config: qwen(5, 2),
  },
  {
    words: 'Qwen3-MoE in FP8, 8 of 8 experts',
    architecture: QWEN,
    headDim: 128,
    ratio: 4,
    kv: 'element',
    weights: 'fp8 blocks',
    config: qwen(8, 8, { moe_intermediate_size: 128 }),
  },
  {
    words: 'Qwen3-MoE, 1 of 3 experts, weights as they come, dense first',
    architecture: QWEN,
    headDim: 80,
    ratio: 3,
    kv: 'fp8',
    config: qwen(3, 1, { norm_topk_prob: false, mlp_only_layers: [0], num_hidden_layers: 3 }),
  },
  {
    words: 'Qwen3-MoE in FP8, 4 of 33 experts, weights as they come, every other layer',
    architecture: QWEN,
    headDim: 64,
    ratio: 8,
    kv: 'fp8',
    weights: 'fp8 blocks',
    tied: true,
    config: qwen(33, 4, {
      norm_topk_prob: false,
      decoder_sparse_step: 2,
      num_hidden_layers: 4,
      moe_intermediate_size: 160,
    }),
  },
  {
    words: 'gpt-oss, 4 of 4 experts, window 41',
    architecture: OSS,
    headDim: 64,
    ratio: 8,
    kv: 'element',
    quick: true,
    config: oss(4, 4, WINDOW),
  },
  {
    words: 'gpt-oss, 2 of 7 experts, a window longer than any context',
    architecture: OSS,
    headDim: 64,
    ratio: 2,
    kv: 'fp8',
    config: oss(7, 2, 2 * RANDOM_MODEL_TOKENS),
  },
  {
    words: 'gpt-oss, 4 of 32 experts, window 16',
    architecture: OSS,
    headDim: 64,
    ratio: 4,
    kv: 'element',
    config: oss(32, 4, 16),
  },
  {
    words: 'gpt-oss, 1 of 5 experts, heads of 96, window 1',
    architecture: OSS,
    headDim: 96,
    ratio: 1,
    kv: 'element',
    config: oss(5, 1, 1),
  },
  {
    words: 'Phi-3, fused modules, window 41',
    architecture: 'Phi3ForCausalLM',
    headDim: 64,
    ratio: 4,
    kv: 'element',
    quick: true,
    config: { ...PHI, intermediate_size: 320, sliding_window: WINDOW },
  },
  {
    words: 'Phi-3 in FP8',
    architecture: 'Phi3ForCausalLM',
    headDim: 128,
    ratio: 4,
    kv: 'fp8',
    weights: 'fp8 blocks',
    config: { ...PHI, intermediate_size: 256 },
  },
  {
    words: 'SmolLM3, every other layer without positions',
    architecture: 'SmolLM3ForCausalLM',
    headDim: 64,
    ratio: 3,
    kv: 'element',
    tied: true,
    config: {
      num_hidden_layers: 4,
      no_rope_layers: [1, 0, 1, 0],
      pad_token_id: 0,
      intermediate_size: 320,
      rope_parameters: ROPES.yarn,
    },
  },
  {
    words: 'Olmo 3, norms behind branches and over all heads, window 41',
    architecture: 'Olmo3ForCausalLM',
    headDim: 64,
    ratio: 2,
    kv: 'element',
    config: {
      num_hidden_layers: 3,
      layer_types: WINDOWED_TYPES,
      sliding_window: WINDOW,
      intermediate_size: 320,
      pad_token_id: 0,
      rope_parameters: { full_attention: ROPES.yarn, sliding_attention: ROPES.plain },
    },
  },
  {
    words: 'Granite 3, numbers for embeddings, scores, branches and logits',
    architecture: 'GraniteForCausalLM',
    headDim: 64,
    ratio: 3,
    kv: 'fp8',
    tied: true,
    config: {
      // transformers takes heads to be the hidden size's parts.
      hidden_size: 384,
      intermediate_size: 320,
      embedding_multiplier: 12,
      attention_multiplier: 0.03125,
      residual_multiplier: 0.22,
      logits_scaling: 0.25,
      rope_parameters: ROPES.plain,
    },
  },
  {
    words: 'Ministral 3, queries that grow with positions',
    architecture: 'Ministral3ForCausalLM',
    headDim: 128,
    ratio: 2,
    kv: 'element',
    config: {
      intermediate_size: 320,
      sliding_window: null,
      pad_token_id: 0,
      rope_parameters: {
        ...ROPES.yarn,
        beta_fast: 32,
        beta_slow: 1,
        mscale: 1,
        mscale_all_dim: 1,
        llama_4_scaling_beta: 0.5,
      },
    },
  },
  {
    words: 'GLM-4.5, 3 of 9 experts by sigmoids, a shared one, half of heads rotates',
    architecture: 'Glm4MoeForCausalLM',
    headDim: 64,
    ratio: 4,
    kv: 'element',
    quick: true,
    config: {
      num_hidden_layers: 3,
      first_k_dense_replace: 1,
      n_routed_experts: 9,
      num_experts_per_tok: 3,
      n_shared_experts: 1,
      moe_intermediate_size: 96,
      routed_scaling_factor: 1.5,
      norm_topk_prob: true,
      attention_bias: true,
      use_qk_norm: true,
      rope_parameters: { ...ROPES.plain, partial_rotary_factor: 0.5 },
    },
  },
  {
    words: 'GLM-4.5 in FP8, 2 of 4 experts by sigmoids, weights as they come',
    architecture: 'Glm4MoeForCausalLM',
    headDim: 128,
    ratio: 2,
    kv: 'fp8',
    weights: 'fp8 blocks',
    config: {
      first_k_dense_replace: 0,
      n_routed_experts: 4,
      num_experts_per_tok: 2,
      n_shared_experts: 2,
      moe_intermediate_size: 128,
      norm_topk_prob: false,
      rope_parameters: { ...ROPES.plain, partial_rotary_factor: 0.5 },
    },
  },
  {
    words: 'MiniMax M2, 4 of 6 experts by sigmoids, norms over all heads, half of heads rotates',
    architecture: 'MiniMaxM2ForCausalLM',
    headDim: 64,
    ratio: 3,
    kv: 'element',
    config: {
      num_local_experts: 6,
      num_experts_per_tok: 4,
      intermediate_size: 96,
      rotary_dim: 32,
      use_qk_norm: true,
      rope_parameters: { ...ROPES.plain, partial_rotary_factor: 0.5 },
    },
  },
  {
    words: 'Gemma 3, four norms a layer, two ropes, window 41',
    architecture: 'Gemma3ForCausalLM',
    headDim: 256,
    ratio: 2,
    kv: 'element',
    tied: true,
    quick: true,
    config: {
      hidden_act: undefined,
      hidden_activation: 'gelu_pytorch_tanh',
      num_hidden_layers: 3,
      layer_types: WINDOWED_TYPES,
      sliding_window: WINDOW,
      query_pre_attn_scalar: 144,
      intermediate_size: 320,
      rope_parameters: TWO_ROPES,
    },
  },
  {
    words: 'Gemma 3, logits capped, a window longer than any context',
    architecture: 'Gemma3ForCausalLM',
    headDim: 128,
    ratio: 4,
    kv: 'fp8',
    tied: true,
    config: {
      hidden_act: undefined,
      hidden_activation: 'gelu_pytorch_tanh',
      num_hidden_layers: 3,
      layer_types: WINDOWED_TYPES,
      sliding_window: 2 * RANDOM_MODEL_TOKENS,
      query_pre_attn_scalar: 128,
      final_logit_softcapping: 2.5,
      intermediate_size: 256,
      rope_parameters: TWO_ROPES,
    },
  },
  {
    words: 'Gemma 4, heads of two sizes, values that are keys, window 41',
    architecture: 'Gemma4ForCausalLM',
    headDim: 256,
    ratio: 2,
    kv: 'element',
    tied: true,
    config: {
      ...GEMMA4,
      attention_k_eq_v: true,
      num_global_key_value_heads: 1,
      sliding_window: WINDOW,
    },
  },
  {
    words: 'Gemma 4, logits capped, a window longer than any context',
    architecture: 'Gemma4ForCausalLM',
    headDim: 64,
    ratio: 4,
    kv: 'fp8',
    tied: true,
    config: {
      ...GEMMA4,
      attention_k_eq_v: true,
      global_head_dim: 128,
      intermediate_size: 256,
      sliding_window: 2 * RANDOM_MODEL_TOKENS,
      final_logit_softcapping: 2.5,
    },
  },
  {
    words: 'Gemma 4, the last layers without keys and values of their own',
    architecture: 'Gemma4ForCausalLM',
    headDim: 128,
    ratio: 8,
    kv: 'element',
    tied: true,
    config: {
      ...GEMMA4,
      global_head_dim: 256,
      num_hidden_layers: 5,
      layer_types: [...WINDOWED_TYPES, ...WINDOWED_TYPES.slice(0, 2)],
      num_kv_shared_layers: 2,
      use_double_wide_mlp: true,
      sliding_window: WINDOW,
    },
  },
  {
    words: 'Gemma 4, inputs for each layer, the last layers without keys and values of their own',
    architecture: 'Gemma4ForCausalLM',
    headDim: 64,
    ratio: 8,
    kv: 'fp8',
    tied: true,
    config: {
      ...GEMMA4,
      global_head_dim: 128,
      num_hidden_layers: 5,
      layer_types: [...WINDOWED_TYPES, ...WINDOWED_TYPES.slice(0, 2)],
      num_kv_shared_layers: 2,
      hidden_size_per_layer_input: 48,
      vocab_size_per_layer_input: 400,
      sliding_window: WINDOW,
    },
  },
  {
    words: 'Gemma 4, 3 of 7 experts beside a dense product',
    architecture: 'Gemma4ForCausalLM',
    headDim: 64,
    ratio: 2,
    kv: 'element',
    tied: true,
    config: {
      ...GEMMA4,
      attention_k_eq_v: true,
      global_head_dim: 128,
      enable_moe_block: true,
      num_experts: 7,
      top_k_experts: 3,
      moe_intermediate_size: 96,
      sliding_window: WINDOW,
    },
  },
  {
    words: 'Qwen3-Next, delta nets, 3 of 7 experts beside a gated one',
    architecture: 'Qwen3NextForCausalLM',
    headDim: 256,
    ratio: 2,
    kv: 'element',
    quick: true,
    config: { ...qwen(7, 3), ...SHARED_EXPERT, ...HYBRID },
  },
  {
    words: 'Qwen3.5, delta nets, dense',
    architecture: 'Qwen3_5ForCausalLM',
    headDim: 256,
    ratio: 3,
    kv: 'fp8',
    tied: true,
    config: { ...HYBRID, intermediate_size: 320, linear_key_head_dim: 64 },
  },
  {
    words: 'Qwen3.5 in FP8, delta nets, dense',
    architecture: 'Qwen3_5ForCausalLM',
    headDim: 128,
    ratio: 4,
    kv: 'element',
    weights: 'fp8 blocks',
    config: {
      ...HYBRID,
      intermediate_size: 256,
      linear_key_head_dim: 128,
      linear_value_head_dim: 128,
      linear_num_value_heads: 2,
    },
  },
  {
    words: 'Qwen3.5-MoE, delta nets, 2 of 5 stacked experts beside a gated one',
    architecture: 'Qwen3_5MoeForCausalLM',
    headDim: 256,
    ratio: 2,
    kv: 'element',
    config: {
      ...qwen(5, 2),
      ...SHARED_EXPERT,
      ...HYBRID,
      norm_topk_prob: undefined,
    },
  },
];

/** Sizes off all tiles; experts of groups, and the first layer without. */
function deepSeek(more: Readonly<Record<string, unknown>>) {
  const { num_attention_heads: heads = 3 } = more;
  return {
    head_dim: undefined,
    hidden_size: 64,
    num_attention_heads: heads,
    // transformers divides by it.
    num_key_value_heads: heads,
    intermediate_size: 96,
    first_k_dense_replace: 1,
    moe_intermediate_size: 48,
    n_routed_experts: 9,
    num_experts_per_tok: 3,
    n_shared_experts: 1,
    n_group: 3,
    topk_group: 2,
    routed_scaling_factor: 2.5,
    norm_topk_prob: true,
    q_lora_rank: 24,
    kv_lora_rank: 32,
    qk_nope_head_dim: 24,
    qk_rope_head_dim: 16,
    v_head_dim: 16,
    rope_parameters: { ...ROPES.yarn, mscale: 1, mscale_all_dim: 1 },
    ...more,
  };
}

const DEEPSEEK_MODELS: readonly FamilyTraits[] = [
  deepSeekTraits('3 of 9 experts of 2 of 3 groups, YaRN', {}, { quick: true }),
  deepSeekTraits('2 of 5 experts, weights as they come, queries of the layer itself', {
    num_attention_heads: 2,
    q_lora_rank: null,
    n_routed_experts: 5,
    num_experts_per_tok: 2,
    n_group: 1,
    topk_group: 1,
    n_shared_experts: 2,
    norm_topk_prob: false,
    first_k_dense_replace: 0,
    rope_parameters: ROPES.plain,
  }),
  deepSeekTraits(
    '8 of 8 experts in FP8',
    {
      hidden_size: 256,
      num_attention_heads: 8,
      intermediate_size: 256,
      moe_intermediate_size: 128,
      n_routed_experts: 8,
      num_experts_per_tok: 8,
      n_group: 4,
      topk_group: 4,
      q_lora_rank: 160,
      kv_lora_rank: 144,
      qk_nope_head_dim: 40,
      qk_rope_head_dim: 32,
      v_head_dim: 64,
    },
    { weights: 'fp8 blocks' },
  ),
  deepSeekTraits('16 heads of the published sizes, 1 of 12 experts of 1 of 4 groups', {
    hidden_size: 128,
    num_attention_heads: 16,
    n_routed_experts: 12,
    num_experts_per_tok: 1,
    n_group: 4,
    topk_group: 1,
    q_lora_rank: 96,
    kv_lora_rank: 512,
    qk_nope_head_dim: 128,
    qk_rope_head_dim: 64,
    v_head_dim: 128,
    // As Kimi K2 has them, and cos and sin that are multiplied by a ratio.
    rope_parameters: { ...ROPES.yarn, beta_fast: 1, beta_slow: 1, mscale: 0.7, mscale_all_dim: 1 },
  }),
  deepSeekTraits(
    '72 heads',
    { num_attention_heads: 72, kv_lora_rank: 80, num_hidden_layers: 3 },
    {
      tied: true,
    },
  ),
];

function deepSeekTraits(
  words: string,
  config: Readonly<Record<string, unknown>>,
  more: Partial<FamilyTraits> = {},
): FamilyTraits {
  return {
    words: `DeepSeek V3, ${words}`,
    architecture: 'DeepseekV3ForCausalLM',
    // Of no use to it.
    headDim: 64,
    ratio: 2,
    kv: 'element',
    config: deepSeek(config),
    ...more,
  };
}

/** All formats of 4 bits: kernels for few lines and for many, and groups that they do not take. */
const INT4: readonly FamilyTraits[] = [
  int4Traits('Qwen3 in AWQ', 'Qwen3ForCausalLM', 'awq', { quick: true }),
  int4Traits('Qwen2 in GPTQ', 'Qwen2ForCausalLM', 'gptq', { headDim: 128, kv: 'fp8' }),
  int4Traits('Llama in GPTQ, a scale a row', 'LlamaForCausalLM', 'gptq v2 by row', { tied: true }),
  int4Traits('Qwen2 in int4', 'Qwen2ForCausalLM', 'int4', {}),
  int4Traits('Llama in int4, groups of 32', 'LlamaForCausalLM', 'int4 in groups of 32', {
    ratio: 2,
  }),
  int4Traits('Llama in AWQ, prompts in large chunks', 'LlamaForCausalLM', 'awq', { headDim: 128 }),
];

/** As tools have them: routers and gates of shared experts as they were. */
const INT4_EXPERTS: readonly FamilyTraits[] = [
  int4Traits('Qwen3 MoE in AWQ, 3 of 7 experts', QWEN, 'awq', {
    quick: true,
    ratio: 2,
    config: qwen(7, 3, { moe_intermediate_size: 128, hidden_size: 256 }),
  }),
  int4Traits('Qwen3 MoE in GPTQ, a scale a row', QWEN, 'gptq v2 by row', {
    config: qwen(4, 4, { moe_intermediate_size: 96, hidden_size: 192 }),
  }),
  int4Traits('GLM-4.5 in int4, groups of 32', 'Glm4MoeForCausalLM', 'int4 in groups of 32', {
    ratio: 2,
    config: {
      hidden_size: 192,
      intermediate_size: 256,
      first_k_dense_replace: 1,
      n_routed_experts: 5,
      num_experts_per_tok: 2,
      n_shared_experts: 1,
      moe_intermediate_size: 96,
      norm_topk_prob: true,
      rope_parameters: { ...ROPES.plain, partial_rotary_factor: 0.5 },
    },
  }),
  deepSeekTraits(
    'experts in int4, groups of 32',
    { hidden_size: 192, moe_intermediate_size: 96 },
    { weights: 'experts in int4', quick: true },
  ),
];

function int4Traits(
  words: string,
  architecture: string,
  weights: Int4Format,
  more: Partial<FamilyTraits>,
): FamilyTraits {
  const config = { intermediate_size: 384, rope_parameters: ROPES.plain };
  const sizes = { headDim: 64, ratio: 4, kv: 'element' } as const;
  return { words, architecture, weights, ...sizes, config, ...more };
}

function familyModel(traits: FamilyTraits, index: number): RandomModel {
  const { words, architecture, headDim, ratio, kv, weights = 'bf16', tied = false } = traits;
  const config = {
    hidden_size: HIDDEN[ratio]!,
    num_attention_heads: ratio * KV_HEADS,
    num_key_value_heads: KV_HEADS,
    head_dim: headDim,
    vocab_size: 384,
    max_position_embeddings: RANDOM_MODEL_TOKENS,
    rope_theta: undefined,
    ...traits.config,
  };
  const stacks = { quantization: { quant_method: 'mxfp4' } };
  return {
    name: `${words}, KV ${kv === 'fp8' ? 'fp8' : 'as computed'}`,
    traits: null,
    folder: {
      architecture,
      tiedHead: tied,
      seed: 100 + index,
      config,
      ...(architecture === OSS ? stacks : QUANTIZATIONS[weights]),
      tokenizer: 'none',
    },
    kvFormat: kv === 'fp8' ? 'fp8-e4m3' : 'element',
    pageTokens: [16, 32, 64][index % 3]!,
    maxBatchTokens: index % 2 === 0 ? 48 : 176,
    quick: traits.quick ?? false,
  };
}

/** Small models of every architecture, in all that their arithmetic depends on. */
export const RANDOM_MODELS: readonly RandomModel[] = [
  ...TRAITS.map(randomModel),
  ...[...FAMILIES, ...INT4, ...DEEPSEEK_MODELS, ...INT4_EXPERTS].map(familyModel),
];
