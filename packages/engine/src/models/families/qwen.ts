import type { ConfigReader } from '../config-reader.ts';
import { counts, SWIGLU } from '../describe-experts.ts';
import type { ExpertsFeedForward, FeedForward } from '../spec.ts';
import { alike, attentionBias, dense, denseOf, type Family } from './family.ts';

/** Layers from `max_window_layers` on are windowed. */
function windows(config: ConfigReader, layers: number): readonly number[] {
  if (!config.boolean('use_sliding_window', false)) return alike(layers, 0);
  const fullLayers = config.integer('max_window_layers', 0, layers);
  if (fullLayers >= layers) return alike(layers, 0);
  const window = config.integer('sliding_window', 1, 4096);
  return Array.from({ length: layers }, (_, layer) => (layer < fullLayers ? 0 : window));
}

const WINDOW_KEYS = ['max_window_layers', 'sliding_window', 'use_sliding_window'];

export const qwen2: Family = {
  architecture: 'Qwen2ForCausalLM',
  modelType: 'qwen2',
  keys: WINDOW_KEYS,
  read: (config, layers) => ({
    qkvBias: true,
    windows: windows(config, layers),
    feedForwards: dense(config, layers),
  }),
};

export const qwen3: Family = {
  architecture: 'Qwen3ForCausalLM',
  modelType: 'qwen3',
  keys: ['attention_bias', ...WINDOW_KEYS],
  defaultHeadDim: 128,
  read: (config, layers) => ({
    qkvBias: attentionBias(config),
    outputBias: attentionBias(config),
    qkNorm: 'heads',
    windows: windows(config, layers),
    feedForwards: dense(config, layers),
  }),
};

export const SPARSE_KEYS = [
  ...['decoder_sparse_step', 'mlp_only_layers', 'moe_intermediate_size', 'norm_topk_prob'],
  ...['num_experts', 'num_experts_per_tok'],
];

export const qwen3Moe: Family = {
  architecture: 'Qwen3MoeForCausalLM',
  modelType: 'qwen3_moe',
  keys: ['attention_bias', ...WINDOW_KEYS, ...SPARSE_KEYS],
  read: (config, layers) => ({
    qkvBias: attentionBias(config),
    outputBias: attentionBias(config),
    qkNorm: 'heads',
    windows: windows(config, layers),
    feedForwards: sparse(config, layers, () => qwenExperts(config)),
  }),
};

/** What Qwen's routers have in common. */
export function qwenExperts(config: ConfigReader): ExpertsFeedForward {
  const isNormalised = config.boolean('norm_topk_prob', false);
  return {
    kind: 'experts',
    ...counts(config, 'num_experts'),
    intermediateSize: config.integer('moe_intermediate_size', 1),
    routerBias: false,
    weighing: isNormalised ? 'softmax-chosen' : 'softmax-all',
    weightScale: 1,
    choiceBias: false,
    groups: null,
    bias: false,
    gate: SWIGLU,
    stored: 'modules',
    shared: null,
    beside: null,
  };
}

/** Experts in every `decoder_sparse_step`th layer that `mlp_only_layers` does not name. */
export function sparse(
  config: ConfigReader,
  layers: number,
  experts: () => ExpertsFeedForward,
): readonly FeedForward[] {
  const step = config.integer('decoder_sparse_step', 1, 1);
  const named = config.get('mlp_only_layers') ?? [];
  const isLayer = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;
  if (!Array.isArray(named) || !named.every(isLayer)) {
    throw config.error('malformed', 'mlp_only_layers', 'must be a list of layers');
  }
  const isDense = (layer: number) => named.includes(layer) || (layer + 1) % step !== 0;
  const kinds = Array.from({ length: layers }, (_, layer) => isDense(layer));
  const routed = kinds.includes(false) ? experts() : undefined;
  const plain = kinds.includes(true) ? denseOf(config) : undefined;
  return kinds.map((isPlain) => (isPlain ? plain! : routed!));
}
