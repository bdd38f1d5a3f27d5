import type { ConfigReader } from '../config-reader.ts';
import { counts, SWIGLU } from '../describe-experts.ts';
import type { ExpertsFeedForward } from '../spec.ts';
import { attentionBias, denseOf, type Family } from './family.ts';

/** From all of them: one group. */
function experts(config: ConfigReader): ExpertsFeedForward {
  for (const key of ['n_group', 'topk_group']) {
    const groups = config.integer(key, 1, 1);
    if (groups !== 1) throw config.error('unsupported', key, `is ${groups}; supported: 1`);
  }
  return sigmoidExperts(config);
}

/** Experts are chosen by sigmoids and a bias. */
export function sigmoidExperts(config: ConfigReader): ExpertsFeedForward {
  const intermediateSize = config.integer('moe_intermediate_size', 1);
  const shared = config.integer('n_shared_experts', 0, 1);
  const isNormalised = config.boolean('norm_topk_prob', true);
  return {
    kind: 'experts',
    ...counts(config, 'n_routed_experts'),
    intermediateSize,
    routerBias: false,
    weighing: isNormalised ? 'sigmoid-normalised' : 'sigmoid',
    weightScale: config.positive('routed_scaling_factor', 1),
    choiceBias: true,
    groups: null,
    bias: false,
    gate: SWIGLU,
    stored: 'modules',
    beside: null,
    shared:
      shared === 0
        ? null
        : {
            intermediateSize: shared * intermediateSize,
            name: 'shared_experts',
            isGated: false,
          },
  };
}

/** GLM-4.5 and 4.6. */
export const glm4Moe: Family = {
  architecture: 'Glm4MoeForCausalLM',
  modelType: 'glm4_moe',
  keys: [
    ...['attention_bias', 'first_k_dense_replace', 'moe_intermediate_size', 'n_group'],
    ...['n_routed_experts', 'n_shared_experts', 'norm_topk_prob', 'num_experts_per_tok'],
    ...['num_nextn_predict_layers', 'num_mtp_layers', 'routed_scaling_factor', 'topk_group'],
    ...['topk_method', 'use_qk_norm'],
  ],
  defaultRotaryFactor: 0.5,
  read: (config, layers) => {
    config.choice('topk_method', ['noaux_tc'], 'noaux_tc');
    const denseLayers = config.integer('first_k_dense_replace', 0, 1);
    const routed = layers > denseLayers ? experts(config) : undefined;
    const plain = denseLayers > 0 ? denseOf(config) : undefined;
    return {
      qkvBias: attentionBias(config),
      qkNorm: config.boolean('use_qk_norm', false) ? 'heads' : 'none',
      feedForwards: Array.from({ length: layers }, (_, layer) =>
        layer < denseLayers ? plain! : routed!,
      ),
    };
  },
};
