import type { ConfigReader } from '../config-reader.ts';
import { ropesByType } from '../describe-rope.ts';
import { alike, attentionBias, type Family } from './family.ts';
import { layerTypesOr } from './layer-types.ts';

const THETAS = { theta: 1_000_000, localKey: 'rope_local_base_freq', localTheta: 10_000 } as const;

const gemma3: Omit<Family, 'architecture' | 'modelType'> = {
  keys: [
    ...['attention_bias', 'final_logit_softcapping', 'hidden_activation', 'query_pre_attn_scalar'],
    ...['rope_local_base_freq', 'sliding_window', 'sliding_window_pattern'],
  ],
  defaultHeadDim: 256,
  defaultTiedHead: true,
  gate: { key: 'hidden_activation', name: 'gelu_pytorch_tanh' },
  ropes: (config, headDim) => ropesByType(config, headDim, THETAS),
  read: (config, layers) => {
    const window = config.integer('sliding_window', 1, 4096);
    const interval = config.integer('sliding_window_pattern', 1, 6);
    const pattern = { interval, rare: 'full_attention', common: 'sliding_attention' } as const;
    const types = layerTypesOr(config, layers, pattern);
    return {
      normOffset: 1,
      norms: { before: true, after: true },
      qkNorm: 'heads',
      qkvBias: attentionBias(config),
      outputBias: attentionBias(config),
      embeddingScale: Math.sqrt(config.integer('hidden_size', 1)),
      attentionScale: config.positive('query_pre_attn_scalar', 256) ** -0.5,
      logits: { scale: 1, cap: capOf(config) },
      windows: types.map((type) => (type === 'sliding_attention' ? window : 0)),
      ropeOf: types.map((type) => (type === 'sliding_attention' ? 1 : 0)),
      feedForwards: alike(layers, {
        kind: 'dense',
        intermediateSize: config.integer('intermediate_size', 1),
        bias: false,
        activation: 'gelu-tanh',
      }),
    };
  },
};

/** What logits are kept below; 0 is no cap. */
export function capOf(config: ConfigReader): number {
  const isGiven = config.get('final_logit_softcapping') !== undefined;
  return isGiven ? config.positive('final_logit_softcapping') : 0;
}

export const gemma3Text: Family = {
  ...gemma3,
  architecture: 'Gemma3ForCausalLM',
  modelType: 'gemma3_text',
};

export const gemma3Seeing: Family = {
  ...gemma3,
  architecture: 'Gemma3ForConditionalGeneration',
  modelType: 'gemma3',
  textKey: 'text_config',
};
