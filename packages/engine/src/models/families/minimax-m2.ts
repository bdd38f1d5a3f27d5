import type { ConfigReader } from '../config-reader.ts';
import { counts, SWIGLU } from '../describe-experts.ts';
import { describeRope } from '../describe-rope.ts';
import type { ExpertsFeedForward } from '../spec.ts';
import { alike, type Family } from './family.ts';

function experts(config: ConfigReader): ExpertsFeedForward {
  config.choice('scoring_func', ['sigmoid'], 'sigmoid');
  if (!config.boolean('use_routing_bias', true)) {
    throw config.error('unsupported', 'use_routing_bias', 'is false; supported: true');
  }
  if (config.integer('shared_intermediate_size', 0, 0) !== 0) {
    throw config.error('unsupported', 'shared_intermediate_size', 'is not 0; supported: 0');
  }
  return {
    kind: 'experts',
    ...counts(config, 'num_local_experts'),
    intermediateSize: config.integer('intermediate_size', 1),
    routerBias: false,
    weighing: 'sigmoid-normalised',
    weightScale: 1,
    choiceBias: true,
    groups: null,
    bias: false,
    gate: SWIGLU,
    stored: 'sparse block',
    shared: null,
    beside: null,
  };
}

/** Heads of q and k are normalised together, and a part of each rotates. */
export const miniMaxM2: Family = {
  architecture: 'MiniMaxM2ForCausalLM',
  modelType: 'minimax_m2',
  keys: [
    ...['attn_type_list', 'mtp_transformer_layers', 'num_experts_per_tok', 'num_local_experts'],
    ...['num_mtp_modules', 'qk_norm_type', 'rotary_dim', 'router_jitter_noise', 'scoring_func'],
    ...['shared_intermediate_size', 'use_mtp', 'use_qk_norm', 'use_routing_bias'],
  ],
  ropes: (config, headDim) => {
    const rotaryDim = config.integer('rotary_dim', 2, headDim);
    return describeRope(config, headDim, rotaryDim / headDim, 5_000_000);
  },
  read: (config, layers) => {
    config.choice('qk_norm_type', ['per_layer'], 'per_layer');
    const types = config.get('attn_type_list') ?? [];
    // 1 is softmax attention, 0 the linear attention of MiniMax-01.
    if (!Array.isArray(types) || !types.every((type) => type === 1)) {
      throw config.error('unsupported', 'attn_type_list', 'has a type that is not 1');
    }
    const hasNorms = config.boolean('use_qk_norm', true);
    return {
      qkNorm: hasNorms ? 'whole' : 'none',
      feedForwards: alike(layers, experts(config)),
    };
  },
};
