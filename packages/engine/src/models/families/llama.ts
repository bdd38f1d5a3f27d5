import { attentionBias, dense, type Family } from './family.ts';

export const llama: Family = {
  architecture: 'LlamaForCausalLM',
  modelType: 'llama',
  keys: ['attention_bias', 'mlp_bias'],
  read: (config, layers) => ({
    qkvBias: attentionBias(config),
    outputBias: attentionBias(config),
    feedForwards: dense(config, layers, config.boolean('mlp_bias', false)),
  }),
};
