import type { ConfigReader } from '../config-reader.ts';
import { alike, dense, type Family, windowIfGiven } from './family.ts';

/** An explicit null is no window; an absent key is what transformers' class defaults to, 4096. */
function windows(config: ConfigReader, layers: number): readonly number[] {
  return config.has('sliding_window') ? windowIfGiven(config, layers) : alike(layers, 4096);
}

const read: Family['read'] = (config, layers) => ({
  windows: windows(config, layers),
  feedForwards: dense(config, layers),
});

export const mistral: Family = {
  architecture: 'MistralForCausalLM',
  modelType: 'mistral',
  keys: ['sliding_window'],
  read,
};

/** Mistral Small 3 beside a tower for images; Ministral 3, whose text model grows its queries. */
export const mistral3: Family = {
  architecture: 'Mistral3ForConditionalGeneration',
  modelType: 'mistral3',
  keys: ['sliding_window'],
  textKey: 'text_config',
  read: (config, layers) =>
    isMinistral(config) ? ministral3.read(config, layers) : read(config, layers),
};

const isMinistral = (config: ConfigReader) =>
  config.object('rope_parameters')?.get('llama_4_scaling_beta') !== undefined;

export const ministral3: Family = {
  architecture: 'Ministral3ForCausalLM',
  modelType: 'ministral3',
  keys: ['sliding_window'],
  read: (config, layers) => {
    const parameters = config.object('rope_parameters');
    const beta = parameters?.get('llama_4_scaling_beta');
    const period = parameters?.integer('original_max_position_embeddings', 1, 1) ?? 1;
    return {
      windows: windowIfGiven(config, layers),
      queryScaling:
        beta === undefined ? null : { beta: parameters!.positive('llama_4_scaling_beta'), period },
      feedForwards: dense(config, layers),
    };
  },
};
