import { refuseUnread } from './config-keys.ts';
import { ConfigReader, show } from './config-reader.ts';
import { describeRope } from './describe-rope.ts';
import { describeQuantization } from './quantization.ts';
import { ARCHITECTURES, type Architecture, type ModelSpec, type StoredType } from './spec.ts';

/**
 * Where the architectures differ. Everything else is read from config.json the same way for all.
 */
interface Traits {
  readonly qkvBias: (config: ConfigReader) => boolean;
  readonly outputBias: (config: ConfigReader) => boolean;
  readonly mlpBias: (config: ConfigReader) => boolean;
  readonly qkNorm: boolean;
  readonly window: (config: ConfigReader, layers: number) => number;
  /** When config.json gives none; undefined is hidden size over heads. */
  readonly defaultHeadDim: number | undefined;
  /** What config.json calls the architecture where it does not name the class. */
  readonly modelType: string;
  /** Keys of config.json that only this architecture and some others have a use for. */
  readonly keys: readonly string[];
}

const always = () => true;
const never = () => false;
const attentionBias = (config: ConfigReader) => config.boolean('attention_bias', false);
const noWindow = () => 0;

const TRAITS: Readonly<Record<Architecture, Traits>> = {
  LlamaForCausalLM: {
    qkvBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: (config) => config.boolean('mlp_bias', false),
    qkNorm: false,
    window: noWindow,
    defaultHeadDim: undefined,
    modelType: 'llama',
    keys: ['attention_bias', 'mlp_bias'],
  },
  MistralForCausalLM: {
    qkvBias: never,
    outputBias: never,
    mlpBias: never,
    qkNorm: false,
    window: mistralWindow,
    defaultHeadDim: undefined,
    modelType: 'mistral',
    keys: ['sliding_window'],
  },
  Qwen2ForCausalLM: {
    qkvBias: always,
    outputBias: never,
    mlpBias: never,
    qkNorm: false,
    window: qwenWindow,
    defaultHeadDim: undefined,
    modelType: 'qwen2',
    keys: ['max_window_layers', 'sliding_window', 'use_sliding_window'],
  },
  Qwen3ForCausalLM: {
    qkvBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: never,
    qkNorm: true,
    window: qwenWindow,
    defaultHeadDim: 128,
    modelType: 'qwen3',
    keys: ['attention_bias', 'max_window_layers', 'sliding_window', 'use_sliding_window'],
  },
};

const STORED_TYPES: Readonly<Record<string, StoredType>> = {
  bfloat16: 'bf16',
  float16: 'f16',
  float32: 'f32',
};

/** An explicit null is no window; an absent key is what transformers' class defaults to, 4096. */
function mistralWindow(config: ConfigReader): number {
  if (!config.has('sliding_window')) return 4096;
  return config.get('sliding_window') === undefined ? 0 : config.integer('sliding_window', 1);
}

/** Layers from `max_window_layers` on are windowed: all or none of them can be run. */
function qwenWindow(config: ConfigReader, layers: number): number {
  if (!config.boolean('use_sliding_window', false)) return 0;
  const fullLayers = config.integer('max_window_layers', 0, layers);
  if (fullLayers >= layers) return 0;
  if (fullLayers > 0) {
    const mixture = `mixes ${fullLayers} full with ${layers - fullLayers} windowed layers`;
    throw config.error('unsupported', 'max_window_layers', `${mixture}; supported: all or none`);
  }
  return config.integer('sliding_window', 1, 4096);
}

function architectureOf(config: ConfigReader): Architecture {
  const named = config.get('architectures');
  const names = Array.isArray(named) ? named : [];
  const modelType = names.length > 0 ? undefined : config.get('model_type');
  const match = ARCHITECTURES.find((architecture) =>
    names.length > 0 ? names[0] === architecture : TRAITS[architecture].modelType === modelType,
  );
  if (match === undefined) {
    const none = modelType === undefined ? 'missing' : `missing, and of ${show(modelType)} unknown`;
    const found = names.length > 0 ? show(names[0]) : none;
    const list = ARCHITECTURES.join(', ');
    throw config.error('unsupported', 'architectures', `is ${found}; supported: ${list}`);
  }
  return match;
}

/** Refuses what would otherwise run and give fluent nonsense. */
function refuseUnsupported(config: ConfigReader): void {
  config.choice('hidden_act', ['silu'], 'silu');
  const partial = config.get('partial_rotary_factor') ?? 1;
  if (partial !== 1) {
    throw config.error('unsupported', 'partial_rotary_factor', 'is not 1; supported: 1');
  }
}

/** All layers are of one kind here, which `layer_types` must not contradict. */
function checkLayerTypes(config: ConfigReader, slidingWindow: number): void {
  const layerTypes = config.get('layer_types');
  if (layerTypes === undefined) return;
  const kinds = new Set(Array.isArray(layerTypes) ? layerTypes : [layerTypes]);
  if (kinds.size > 1) {
    throw config.error('unsupported', 'layer_types', 'mixes kinds; supported: one kind for all');
  }
  const kind = slidingWindow === 0 ? 'full_attention' : 'sliding_attention';
  for (const found of kinds) {
    if (found === kind) continue;
    const expected = `the other keys make every layer one of ${kind}`;
    throw config.error('unsupported', 'layer_types', `has ${show(found)}, but ${expected}`);
  }
}

/** No model has nearly as many; each takes tensors to list before anything is checked. */
const MAX_LAYERS = 1024;

function layersOf(config: ConfigReader): number {
  const layers = config.integer('num_hidden_layers', 1);
  if (layers <= MAX_LAYERS) return layers;
  throw config.error('unsupported', 'num_hidden_layers', `is ${layers}; at most ${MAX_LAYERS}`);
}

function headDimOf(config: ConfigReader, traits: Traits, hidden: number, heads: number): number {
  const headDim = config.integer('head_dim', 1, traits.defaultHeadDim ?? hidden / heads);
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
  const config = new ConfigReader(configJson, 'config.json');
  const architecture = architectureOf(config);
  const traits = TRAITS[architecture];
  refuseUnread(config, architecture, traits.keys);
  refuseUnsupported(config);
  const hiddenSize = config.integer('hidden_size', 1);
  const layers = layersOf(config);
  const heads = config.integer('num_attention_heads', 1);
  const kvHeads = config.integer('num_key_value_heads', 1, heads);
  if (heads % kvHeads !== 0) {
    const relation = `is ${kvHeads}, which does not divide num_attention_heads ${heads}`;
    throw config.error('malformed', 'num_key_value_heads', relation);
  }
  const headDim = headDimOf(config, traits, hiddenSize, heads);
  const vocabularySize = config.integer('vocab_size', 1);
  const { theta, scaling, maxPositions } = describeRope(config);
  const slidingWindow = traits.window(config, layers);
  checkLayerTypes(config, slidingWindow);
  const generation = new ConfigReader(generationConfigJson ?? {}, 'generation_config.json');
  const eosTokenIds = new Set([
    ...tokenIds(generation, 'eos_token_id', vocabularySize),
    ...tokenIds(config, 'eos_token_id', vocabularySize),
  ]);
  return {
    architecture,
    hiddenSize,
    layers,
    heads,
    kvHeads,
    headDim,
    feedForward: {
      kind: 'dense',
      intermediateSize: config.integer('intermediate_size', 1),
      bias: traits.mlpBias(config),
    },
    vocabularySize,
    rmsNormEpsilon: config.positive('rms_norm_eps', 1e-6),
    maxPositions,
    rope: { theta, scaling },
    qkvBias: traits.qkvBias(config),
    outputBias: traits.outputBias(config),
    qkNorm: traits.qkNorm,
    tiedHead: config.boolean('tie_word_embeddings', false),
    slidingWindow,
    eosTokenIds: [...eosTokenIds],
    bosTokenId: tokenIds(config, 'bos_token_id', vocabularySize)[0],
    storedType: storedTypeOf(config),
    quantization: describeQuantization(config),
  };
}
