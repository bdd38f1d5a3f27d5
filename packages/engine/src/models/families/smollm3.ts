import type { ConfigReader } from '../config-reader.ts';
import { attentionBias, dense, type Family } from './family.ts';

/**
 * As `no_rope_layers` says, with a 1 for each layer that rotates; where it is absent, all but every
 * `no_rope_layer_interval`th. (The name is the other way round.)
 */
function rotations(config: ConfigReader, layers: number): readonly boolean[] {
  const named = config.get('no_rope_layers');
  if (named === undefined) {
    const interval = config.integer('no_rope_layer_interval', 1, 4);
    return Array.from({ length: layers }, (_, layer) => (layer + 1) % interval !== 0);
  }
  const isFlag = (value: unknown) => value === 0 || value === 1;
  if (!Array.isArray(named) || named.length < layers || !named.every(isFlag)) {
    throw config.error('malformed', 'no_rope_layers', `must have a 0 or 1 for each of ${layers}`);
  }
  return named.slice(0, layers).map((flag) => flag === 1);
}

export const smolLm3: Family = {
  architecture: 'SmolLM3ForCausalLM',
  modelType: 'smollm3',
  keys: ['attention_bias', 'mlp_bias', 'no_rope_layers', 'no_rope_layer_interval'],
  defaultTiedHead: true,
  read: (config, layers) => ({
    qkvBias: attentionBias(config),
    outputBias: attentionBias(config),
    ropeOf: rotations(config, layers).map((rotates) => (rotates ? 0 : null)),
    feedForwards: dense(config, layers, config.boolean('mlp_bias', false)),
  }),
};
