import type { ConfigReader } from '../config-reader.ts';
import { counts } from '../describe-experts.ts';
import { ropesByType } from '../describe-rope.ts';
import type {
  DenseFeedForward,
  ExpertsFeedForward,
  FeedForward,
  LayerHeads,
  PerLayerInputs,
} from '../spec.ts';
import { attentionBias, type Family } from './family.ts';
import { capOf } from './gemma3.ts';
import { type LayerType, layerTypesOr } from './layer-types.ts';

const PATTERN = { interval: 6, rare: 'full_attention', common: 'sliding_attention' } as const;

/** What layers with full attention turn by where config.json does not say. */
const FULL_ROPE = { rope_type: 'proportional', partial_rotary_factor: 0.25, rope_theta: 1e6 };
const THETAS = { theta: 1e6, localKey: undefined, localTheta: 1e4, full: FULL_ROPE } as const;

function globalDim(config: ConfigReader): number {
  const dims = config.integer('global_head_dim', 1, 512);
  if (dims % 2 === 0) return dims;
  const message = `is ${dims}; rotary positions need it even`;
  throw config.error('unsupported', 'global_head_dim', message);
}

/** The last layer has full attention whatever the list says, as in transformers. */
function typesOf(config: ConfigReader, layers: number): readonly LayerType[] {
  return [...layerTypesOr(config, layers, PATTERN).slice(0, -1), 'full_attention'];
}

/** How many layers at the end have no keys and values of their own. */
function sharedLayers(config: ConfigReader, layers: number): number {
  const shared = config.integer('num_kv_shared_layers', 0, 0);
  if (shared < layers) return shared;
  const message = `is ${shared}; of ${layers} layers some must have keys and values of their own`;
  throw config.error('malformed', 'num_kv_shared_layers', message);
}

/**
 * Layers with full attention have heads of other sizes, and perhaps no projection of values; the
 * last ones of a model may take keys and values of the last earlier layer of their type.
 */
function headsOf(config: ConfigReader, types: readonly LayerType[]): readonly LayerHeads[] {
  const heads = config.integer('num_attention_heads', 1);
  const local = {
    kvHeads: config.integer('num_key_value_heads', 1, 4),
    headDim: config.integer('head_dim', 1, 256),
    lineKv: 'keys and values',
  } as const;
  const areKeys = config.boolean('attention_k_eq_v', false);
  const globalHeads = config.integer('num_global_key_value_heads', 1, local.kvHeads);
  if (heads % globalHeads !== 0) {
    const relation = `is ${globalHeads}, which does not divide num_attention_heads ${heads}`;
    throw config.error('malformed', 'num_global_key_value_heads', relation);
  }
  const full = {
    kvHeads: areKeys ? globalHeads : local.kvHeads,
    headDim: globalDim(config),
    lineKv: areKeys ? 'keys' : 'keys and values',
  } as const;
  const own = types.length - sharedLayers(config, types.length);
  return types.map((type, layer) => {
    const heads = type === 'full_attention' ? full : local;
    if (layer < own) return { ...heads, kvLayer: layer };
    const kvLayer = types.lastIndexOf(type, own - 1);
    if (kvLayer >= 0) return { ...heads, lineKv: 'none', kvLayer };
    const message = `leaves no layer of ${type} with keys and values for layer ${layer}`;
    throw config.error('malformed', 'num_kv_shared_layers', message);
  });
}

/** Beside the dense product; whose weights add up to one before the experts' own numbers. */
function expertsOf(config: ConfigReader, beside: DenseFeedForward): ExpertsFeedForward {
  return {
    kind: 'experts',
    ...counts(config, 'num_experts', 'top_k_experts'),
    intermediateSize: config.integer('moe_intermediate_size', 1),
    routerBias: false,
    weighing: 'softmax-chosen',
    weightScale: 1,
    choiceBias: false,
    groups: null,
    bias: false,
    gate: { limit: Number.POSITIVE_INFINITY, alpha: 'gelu-tanh', shift: 0 },
    stored: 'stack of layer',
    shared: null,
    beside,
  };
}

function feedForwardsOf(config: ConfigReader, layers: number): readonly FeedForward[] {
  const width = config.integer('intermediate_size', 1);
  const own = layers - sharedLayers(config, layers);
  const isDouble = config.boolean('use_double_wide_mlp', false);
  const dense = { kind: 'dense', bias: false, activation: 'gelu-tanh' } as const;
  const hasExperts = config.boolean('enable_moe_block', false);
  const [single, double] = [width, 2 * width].map((intermediateSize) => {
    const product = { ...dense, intermediateSize };
    return hasExperts ? expertsOf(config, product) : product;
  }) as [FeedForward, FeedForward];
  return Array.from({ length: layers }, (_, layer) => (isDouble && layer >= own ? double : single));
}

function perLayerOf(config: ConfigReader): PerLayerInputs | null {
  // Absent it is 256 in transformers; null is none.
  const isGiven = [...config.keys()].includes('hidden_size_per_layer_input');
  const width = config.integer('hidden_size_per_layer_input', 0, isGiven ? 0 : 256);
  if (width === 0) return null;
  const vocabularySize = config.integer('vocab_size_per_layer_input', 1, 262_144);
  const vocabulary = config.integer('vocab_size', 1);
  if (vocabularySize >= vocabulary) return { width, vocabularySize };
  const message = `is ${vocabularySize}, less than vocab_size ${vocabulary}`;
  throw config.error('malformed', 'vocab_size_per_layer_input', message);
}

const gemma4: Omit<Family, 'architecture' | 'modelType'> = {
  keys: [
    ...['attention_bias', 'attention_k_eq_v', 'enable_moe_block', 'final_logit_softcapping'],
    ...['global_head_dim', 'hidden_activation', 'hidden_size_per_layer_input'],
    ...['moe_intermediate_size', 'num_experts', 'num_global_key_value_heads'],
    ...['num_kv_shared_layers', 'sliding_window', 'top_k_experts', 'use_bidirectional_attention'],
    ...['use_double_wide_mlp', 'vocab_size_per_layer_input'],
  ],
  defaultHeadDim: 256,
  defaultTiedHead: true,
  gate: { key: 'hidden_activation', name: 'gelu_pytorch_tanh' },
  ropes: (config, headDim) => ropesByType(config, headDim, THETAS, globalDim(config)),
  read: (config, layers) => {
    config.choice('use_bidirectional_attention', ['vision'], 'vision');
    const window = config.integer('sliding_window', 1, 512);
    const types = typesOf(config, layers);
    return {
      norms: { before: true, after: true },
      qkNorm: 'heads',
      valueNorm: true,
      layerScale: true,
      perLayer: perLayerOf(config),
      qkvBias: attentionBias(config),
      outputBias: attentionBias(config),
      embeddingScale: Math.sqrt(config.integer('hidden_size', 1)),
      attentionScale: 1,
      logits: { scale: 1, cap: capOf(config) },
      layerHeads: headsOf(config, types),
      windows: types.map((type) => (type === 'sliding_attention' ? window : 0)),
      ropeOf: types.map((type) => (type === 'sliding_attention' ? 1 : 0)),
      feedForwards: feedForwardsOf(config, layers),
    };
  },
};

export const gemma4Families: readonly Family[] = [
  { ...gemma4, architecture: 'Gemma4ForCausalLM', modelType: 'gemma4_text' },
  {
    ...gemma4,
    architecture: 'Gemma4ForConditionalGeneration',
    modelType: 'gemma4',
    textKey: 'text_config',
  },
];
