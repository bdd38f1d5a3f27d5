import { refuseUnread } from './config-keys.ts';
import { ConfigReader, show } from './config-reader.ts';
import { describeRope } from './describe-rope.ts';
import { alike, type Family, PLAIN } from './families/family.ts';
import { FAMILIES } from './families/index.ts';
import { LAYER_TYPES, layerTypes } from './families/layer-types.ts';
import { describeQuantization, type Quantization } from './quantization.ts';
import type { LayerKind, ModelSpec, StoredType } from './spec.ts';

const STORED_TYPES: Readonly<Record<string, StoredType>> = {
  bfloat16: 'bf16',
  float16: 'f16',
  float32: 'f32',
};

function familyOf(config: ConfigReader): Family {
  const named = config.get('architectures');
  const names = Array.isArray(named) ? named : [];
  const modelType = names.length > 0 ? undefined : config.get('model_type');
  const match = FAMILIES.find((family) =>
    names.length > 0 ? names[0] === family.architecture : family.modelType === modelType,
  );
  if (match === undefined) {
    const none = modelType === undefined ? 'missing' : `missing, and of ${show(modelType)} unknown`;
    const found = names.length > 0 ? show(names[0]) : none;
    const list = [...new Set(FAMILIES.map(({ architecture }) => architecture))].join(', ');
    throw config.error('unsupported', 'architectures', `is ${found}; supported: ${list}`);
  }
  return match;
}

/** Keys of a model that also sees which hold for its text as well. */
const SHARED_KEYS = [
  ...['architectures', 'bos_token_id', 'dtype', 'eos_token_id', 'quantization_config'],
  ...['tie_word_embeddings', 'torch_dtype', 'vocab_size'],
];
/** Keys of what stands beside the text model, and is left aside. */
const BESIDE_TEXT = new Set([
  ...['audio_config', 'audio_token_id', 'boa_token_id', 'boi_token_id', 'boi_token_index'],
  ...['eoa_token_id', 'eoa_token_index', 'eoi_token_id', 'eoi_token_index', 'image_token_id'],
  ...['image_token_index', 'language_model_only', 'model_type'],
  ...['mm_tokens_per_image', 'multimodal_projector_bias', 'projector_hidden_act'],
  ...['spatial_merge_size', 'video_token_id', 'vision_config', 'vision_end_token_id'],
  ...['vision_feature_layer', 'vision_soft_tokens_per_image', 'vision_start_token_id'],
]);

/** The text model's keys, and those that the whole has for it. */
function textConfigOf(whole: ConfigReader, textKey: string): ConfigReader {
  const text = whole.object(textKey);
  if (text === undefined) throw whole.error('malformed', textKey, 'is missing');
  const values: Record<string, unknown> = {};
  for (const key of whole.keys()) {
    if (key !== textKey && !BESIDE_TEXT.has(key)) values[key] = whole.get(key);
  }
  for (const key of text.keys()) {
    const isShared = SHARED_KEYS.includes(key) && whole.get(key) !== undefined;
    if (!isShared) values[key] = text.get(key) ?? null;
  }
  return new ConfigReader(values, `config.json: "${textKey}"`);
}

/** Refuses what would otherwise run and give fluent nonsense. */
function checkGate(config: ConfigReader, { gate }: Family): void {
  const { key, name } = gate ?? { key: 'hidden_act', name: 'silu' };
  config.choice(key, [name], name);
}

/** The kinds follow from other keys, which `layer_types` must not contradict. */
function checkLayerTypes(config: ConfigReader, kinds: readonly LayerKind[]): void {
  const types = layerTypes(config, kinds.length, LAYER_TYPES);
  kinds.forEach(({ mixer, window }, layer) => {
    const attention = window === 0 ? 'full_attention' : 'sliding_attention';
    const kind = mixer === 'delta-net' ? 'linear_attention' : attention;
    const found = types?.[layer] ?? kind;
    if (found === kind) return;
    const expected = `the other keys make layer ${layer} one of ${kind}`;
    throw config.error('unsupported', 'layer_types', `has ${show(found)}, but ${expected}`);
  });
}

/** The key is among those of positions, which are read for every family. */
function checkQueryScaling(config: ConfigReader, scaling: ModelSpec['queryScaling']): void {
  const parameters = config.object('rope_parameters') ?? config.object('rope_scaling');
  if (scaling !== null || parameters?.get('llama_4_scaling_beta') === undefined) return;
  const message = 'is not read for this architecture';
  throw parameters.error('unsupported', 'llama_4_scaling_beta', message);
}

/** MXFP4 is how gpt-oss has its experts, and nothing else is. */
function checkQuantization(config: ConfigReader, kinds: readonly LayerKind[]): Quantization | null {
  const quantization = describeQuantization(config);
  const isStacked = kinds.some(
    ({ feedForward }) => feedForward.kind === 'experts' && feedForward.stored === 'mxfp4 stack',
  );
  if (isStacked === (quantization?.method === 'mxfp4')) return quantization;
  const found = quantization === null ? 'is missing' : `is of method ${quantization.method}`;
  const wanted = isStacked ? 'mxfp4' : 'fp8, compressed-tensors, awq, gptq, or none';
  const message = `${found}; supported for this architecture: ${wanted}`;
  throw config.error('unsupported', 'quantization_config', message);
}

/** No model has nearly as many; each takes tensors to list before anything is checked. */
const MAX_LAYERS = 1024;

function layersOf(config: ConfigReader): number {
  const layers = config.integer('num_hidden_layers', 1);
  if (layers <= MAX_LAYERS) return layers;
  throw config.error('unsupported', 'num_hidden_layers', `is ${layers}; at most ${MAX_LAYERS}`);
}

function headDimOf(config: ConfigReader, family: Family, hidden: number, heads: number): number {
  const headDim = config.integer('head_dim', 1, family.defaultHeadDim ?? hidden / heads);
  if (headDim % 2 !== 0) {
    throw config.error('unsupported', 'head_dim', `is ${headDim}; rotary positions need it even`);
  }
  return headDim;
}

function storedTypeOf(config: ConfigReader): StoredType | undefined {
  const key = config.get('dtype') === undefined ? 'torch_dtype' : 'dtype';
  const value = config.get(key);
  if (value === undefined || value === 'auto') return undefined;
  const name = typeof value === 'string' ? value.replace(/^torch\./, '') : '';
  if (Object.hasOwn(STORED_TYPES, name)) return STORED_TYPES[name];
  const supported = Object.keys(STORED_TYPES).join(', ');
  throw config.error('unsupported', key, `is ${show(value)}; supported: ${supported}`);
}

/** Token ids under `key`: a number, a list or nothing, which is also spelled -1. */
function tokenIds(config: ConfigReader, key: string, vocabulary: number): number[] {
  const value = config.get(key) === -1 ? undefined : config.get(key);
  const ids = Array.isArray(value) ? value : value === undefined ? [] : [value];
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocabulary) {
      const accepted = `token ids below ${vocabulary}`;
      throw config.error('malformed', key, `must hold ${accepted}`);
    }
  }
  return ids;
}

/**
 * Reads what config.json and generation_config.json (parsed) say of a model, in the old and the new
 * spellings of transformers (`rope_scaling` and `rope_parameters`, `torch_dtype` and `dtype`). Of
 * config.json every key is read, or known to change nothing, or refused. Throws ModelError
 * `malformed` or `unsupported`, naming file and key.
 */
export function describeModel(configJson: unknown, generationConfigJson?: unknown): ModelSpec {
  const whole = new ConfigReader(configJson, 'config.json');
  const family = familyOf(whole);
  const config = family.textKey === undefined ? whole : textConfigOf(whole, family.textKey);
  refuseUnread(config, family);
  checkGate(config, family);
  const hiddenSize = config.integer('hidden_size', 1);
  const layers = layersOf(config);
  const heads = config.integer('num_attention_heads', 1);
  const kvHeads = config.integer('num_key_value_heads', 1, heads);
  if (heads % kvHeads !== 0) {
    const relation = `is ${kvHeads}, which does not divide num_attention_heads ${heads}`;
    throw config.error('malformed', 'num_key_value_heads', relation);
  }
  const headDim = family.headDim?.(config) ?? headDimOf(config, family, hiddenSize, heads);
  const vocabularySize = config.integer('vocab_size', 1);
  const { ropes, maxPositions } =
    family.ropes?.(config, headDim) ??
    describeRope(config, headDim, family.defaultRotaryFactor ?? 1);
  const { mixers, layerHeads, windows, ropeOf, feedForwards, ...traits } = {
    ...PLAIN,
    ...family.read(config, layers),
  };
  const layerKinds = Array.from({ length: layers }, (_, layer) => ({
    mixer: mixers?.[layer] ?? ('attention' as const),
    ...(layerHeads?.[layer] ?? {
      kvHeads,
      headDim,
      lineKv: 'keys and values' as const,
      kvLayer: layer,
    }),
    window: windows?.[layer] ?? 0,
    rope: (ropeOf ?? alike(layers, 0))[layer]!,
    feedForward: feedForwards[layer]!,
  }));
  checkLayerTypes(config, layerKinds);
  checkQueryScaling(config, traits.queryScaling);
  const generation = new ConfigReader(generationConfigJson ?? {}, 'generation_config.json');
  const eosTokenIds = new Set([
    ...tokenIds(generation, 'eos_token_id', vocabularySize),
    ...tokenIds(config, 'eos_token_id', vocabularySize),
  ]);
  return {
    ...traits,
    architecture: family.architecture,
    hiddenSize,
    layers,
    heads,
    layerKinds,
    vocabularySize,
    rmsNormEpsilon: config.positive('rms_norm_eps', 1e-6),
    maxPositions,
    ropes,
    attentionScale: traits.attentionScale ?? 1 / Math.sqrt(headDim),
    tiedHead: config.boolean('tie_word_embeddings', family.defaultTiedHead ?? false),
    eosTokenIds: [...eosTokenIds],
    bosTokenId: tokenIds(config, 'bos_token_id', vocabularySize)[0],
    storedType: storedTypeOf(config),
    quantization: checkQuantization(config, layerKinds),
  };
}
