import { dense, type Family, windowIfGiven } from './family.ts';

export const phi3: Family = {
  architecture: 'Phi3ForCausalLM',
  modelType: 'phi3',
  keys: ['sliding_window', 'original_max_position_embeddings'],
  read: (config, layers) => ({
    fusedModules: true,
    windows: windowIfGiven(config, layers),
    feedForwards: dense(config, layers),
  }),
};
