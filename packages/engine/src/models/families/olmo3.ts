import { ropesByType } from '../describe-rope.ts';
import { attentionBias, dense, type Family } from './family.ts';
import { layerTypesOr } from './layer-types.ts';

/** Norms are behind branches and over all heads of q and k; three of four layers see a window. */
export const olmo3: Family = {
  architecture: 'Olmo3ForCausalLM',
  modelType: 'olmo3',
  keys: ['attention_bias', 'sliding_window'],
  ropes: (config, headDim) => ropesByType(config, headDim, { theta: 500_000, localKey: undefined }),
  read: (config, layers) => {
    const window = config.integer('sliding_window', 1, 4096);
    const pattern = { interval: 4, rare: 'full_attention', common: 'sliding_attention' } as const;
    const types = layerTypesOr(config, layers, pattern);
    return {
      norms: { before: false, after: true },
      qkNorm: 'whole',
      qkvBias: attentionBias(config),
      outputBias: attentionBias(config),
      windows: types.map((type) => (type === 'sliding_attention' ? window : 0)),
      ropeOf: types.map((type) => (type === 'sliding_attention' ? 1 : 0)),
      feedForwards: dense(config, layers),
    };
  },
};
