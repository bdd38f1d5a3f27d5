import { describeGptOssExperts } from '../describe-experts.ts';
import { alike, attentionBias, type Family } from './family.ts';
import { layerTypesOr } from './layer-types.ts';

export const gptOss: Family = {
  architecture: 'GptOssForCausalLM',
  modelType: 'gpt_oss',
  keys: [
    ...['attention_bias', 'sliding_window', 'initial_context_length', 'swiglu_limit'],
    ...['swiglu_alpha', 'num_local_experts', 'num_experts_per_tok', 'experts_per_token'],
  ],
  defaultHeadDim: 64,
  read: (config, layers) => {
    const window = config.integer('sliding_window', 1, 128);
    // Where config.json has no list, every other layer from the first on is windowed.
    const pattern = { interval: 2, rare: 'full_attention', common: 'sliding_attention' } as const;
    const types = layerTypesOr(config, layers, pattern);
    return {
      qkvBias: attentionBias(config),
      outputBias: attentionBias(config),
      attentionSinks: true,
      windows: types.map((type) => (type === 'sliding_attention' ? window : 0)),
      feedForwards: alike(layers, describeGptOssExperts(config)),
    };
  },
};
