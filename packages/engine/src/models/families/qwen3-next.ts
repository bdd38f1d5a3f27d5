import type { ConfigReader } from '../config-reader.ts';
import type { DeltaNet, ExpertsFeedForward, FeedForward } from '../spec.ts';
import { alike, attentionBias, dense, type Family } from './family.ts';
import { layerTypesOr } from './layer-types.ts';
import { qwenExperts, SPARSE_KEYS, sparse } from './qwen.ts';

/** Layers with a gated delta net, and every fourth with gated attention. */
function hybrid(
  config: ConfigReader,
  layers: number,
  stored: DeltaNet['stored'],
  feedForwards: readonly FeedForward[],
) {
  const interval = config.integer('full_attention_interval', 1, 4);
  const pattern = { interval, rare: 'full_attention', common: 'linear_attention' } as const;
  const types = layerTypesOr(config, layers, pattern);
  const mixers = types.map((type) =>
    type === 'linear_attention' ? ('delta-net' as const) : ('attention' as const),
  );
  return {
    normOffset: 1 as const,
    qkNorm: 'heads' as const,
    attentionGate: true,
    qkvBias: attentionBias(config),
    outputBias: attentionBias(config),
    deltaNet: mixers.includes('delta-net') ? deltaNetOf(config, stored) : null,
    mixers,
    feedForwards,
  };
}

function deltaNetOf(config: ConfigReader, stored: DeltaNet['stored']): DeltaNet {
  const taps = config.integer('linear_conv_kernel_dim', 1, 4);
  if (taps !== 4) {
    throw config.error('unsupported', 'linear_conv_kernel_dim', `is ${taps}; supported: 4`);
  }
  const keyHeads = config.integer('linear_num_key_heads', 1, 16);
  const valueHeads = config.integer('linear_num_value_heads', 1, 32);
  if (valueHeads % keyHeads !== 0) {
    const relation = `is ${keyHeads}, which does not divide linear_num_value_heads ${valueHeads}`;
    throw config.error('malformed', 'linear_num_key_heads', relation);
  }
  return {
    keyHeads,
    valueHeads,
    keyDim: config.integer('linear_key_head_dim', 1, 128),
    valueDim: config.integer('linear_value_head_dim', 1, 128),
    stored,
  };
}

/** A shared expert whose share each line says itself. */
function withShared(config: ConfigReader, experts: ExpertsFeedForward): ExpertsFeedForward {
  const intermediateSize = config.integer('shared_expert_intermediate_size', 1);
  return { ...experts, shared: { intermediateSize, name: 'shared_expert', isGated: true } };
}

const KEYS = [
  ...['attention_bias', 'full_attention_interval', 'linear_conv_kernel_dim'],
  ...['linear_key_head_dim', 'linear_num_key_heads', 'linear_num_value_heads'],
  ...['linear_value_head_dim'],
];
const SHARED_KEYS = ['shared_expert_intermediate_size'];
const SIZES = { defaultHeadDim: 256, defaultRotaryFactor: 0.25 } as const;

export const qwen3Next: Family = {
  ...SIZES,
  architecture: 'Qwen3NextForCausalLM',
  modelType: 'qwen3_next',
  keys: [...KEYS, ...SPARSE_KEYS, ...SHARED_KEYS],
  read: (config, layers) => {
    const experts = () => withShared(config, qwenExperts(config));
    return hybrid(config, layers, 'by key head', sparse(config, layers, experts));
  },
};

const readDense: Family['read'] = (config, layers) => {
  check(config);
  return hybrid(config, layers, 'flat', dense(config, layers));
};

/** Experts are stacked, and their weights always add up to one. */
const readMoe: Family['read'] = (config, layers) => {
  check(config);
  const experts = withShared(config, {
    ...qwenExperts(config),
    weighing: 'softmax-chosen',
    stored: 'stack',
  });
  return hybrid(config, layers, 'flat', alike(layers, experts));
};

/** What is always so of Qwen3.5, in keys that could say otherwise. */
function check(config: ConfigReader): void {
  if (!config.boolean('attn_output_gate', true)) {
    throw config.error('unsupported', 'attn_output_gate', 'is false; supported: true');
  }
  config.choice('output_gate_type', ['swish'], 'swish');
  const named = config.get('mlp_only_layers') ?? [];
  if (Array.isArray(named) && named.length === 0) return;
  throw config.error('unsupported', 'mlp_only_layers', 'names layers; supported: none');
}

const KEYS_35 = [
  ...[...KEYS, 'attn_output_gate', 'mamba_ssm_dtype', 'mlp_only_layers'],
  ...['mtp_num_hidden_layers', 'mtp_use_dedicated_embeddings', 'output_gate_type'],
];
const MOE_KEYS_35 = [
  ...[...KEYS_35, ...SHARED_KEYS, 'moe_intermediate_size', 'num_experts', 'num_experts_per_tok'],
  'norm_topk_prob',
];

/** Qwen3.5 and 3.6, alone and beside a tower for images. */
export const qwen35Families: readonly Family[] = [
  {
    ...SIZES,
    architecture: 'Qwen3_5ForCausalLM',
    modelType: 'qwen3_5_text',
    keys: KEYS_35,
    read: readDense,
  },
  {
    ...SIZES,
    architecture: 'Qwen3_5ForConditionalGeneration',
    modelType: 'qwen3_5',
    keys: KEYS_35,
    textKey: 'text_config',
    read: readDense,
  },
  {
    ...SIZES,
    architecture: 'Qwen3_5MoeForCausalLM',
    modelType: 'qwen3_5_moe_text',
    keys: MOE_KEYS_35,
    read: readMoe,
  },
  {
    ...SIZES,
    architecture: 'Qwen3_5MoeForConditionalGeneration',
    modelType: 'qwen3_5_moe',
    keys: MOE_KEYS_35,
    textKey: 'text_config',
    read: readMoe,
  },
];
