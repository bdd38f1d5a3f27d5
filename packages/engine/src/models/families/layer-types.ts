import { type ConfigReader, show } from '../config-reader.ts';

export const LAYER_TYPES = ['full_attention', 'sliding_attention', 'linear_attention'] as const;
export type LayerType = (typeof LAYER_TYPES)[number];

/** `layer_types`, an entry for each layer; undefined where config.json has none. */
export function layerTypes(
  config: ConfigReader,
  layers: number,
  accepted: readonly LayerType[] = ['full_attention', 'sliding_attention'],
): readonly LayerType[] | undefined {
  const types = config.get('layer_types');
  if (types === undefined) return undefined;
  if (!Array.isArray(types) || types.length !== layers) {
    const found = Array.isArray(types) ? `has ${types.length} entries` : `is ${show(types)}`;
    const message = `${found}; it must have one for each of the ${layers} layers`;
    throw config.error('malformed', 'layer_types', message);
  }
  for (const type of types) {
    if (accepted.includes(type)) continue;
    const supported = accepted.join(', ');
    throw config.error('unsupported', 'layer_types', `has ${show(type)}; supported: ${supported}`);
  }
  return types as LayerType[];
}

/** As `layer_types` says; where it is absent, every `interval`th layer is of type `rare`. */
export function layerTypesOr(
  config: ConfigReader,
  layers: number,
  { interval, rare, common }: { interval: number; rare: LayerType; common: LayerType },
): readonly LayerType[] {
  const types = layerTypes(config, layers, [rare, common]);
  if (types !== undefined) return types;
  return Array.from({ length: layers }, (_, layer) =>
    (layer + 1) % interval === 0 ? rare : common,
  );
}
