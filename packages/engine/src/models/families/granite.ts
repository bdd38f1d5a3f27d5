import { attentionBias, dense, type Family } from './family.ts';

/** Llama with a number for each of embeddings, scores, branches and logits. */
export const granite: Family = {
  architecture: 'GraniteForCausalLM',
  modelType: 'granite',
  keys: [
    ...['attention_bias', 'mlp_bias', 'attention_multiplier', 'embedding_multiplier'],
    ...['residual_multiplier', 'logits_scaling'],
  ],
  read: (config, layers) => ({
    embeddingScale: config.positive('embedding_multiplier', 1),
    attentionScale: config.positive('attention_multiplier', 1),
    residualScale: config.positive('residual_multiplier', 1),
    logits: { scale: 1 / config.positive('logits_scaling', 1), cap: 0 },
    qkvBias: attentionBias(config),
    outputBias: attentionBias(config),
    feedForwards: dense(config, layers, config.boolean('mlp_bias', false)),
  }),
};
