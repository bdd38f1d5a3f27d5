import { refuseUnread } from './config-keys.ts';
import { ConfigReader, show } from './config-reader.ts';
import { describeGptOssExperts, describeQwenExperts } from './describe-experts.ts';
import { describeRope } from './describe-rope.ts';
import { describeQuantization, type Quantization } from './quantization.ts';
import {
  ARCHITECTURES,
  type Architecture,
  type FeedForward,
  type LayerKind,
  type ModelSpec,
  type StoredType,
} from './spec.ts';

/**
 * Where the architectures differ. Everything else is read from config.json the same way for all.
 */
interface Traits {
  readonly qkvBias: (config: ConfigReader) => boolean;
  readonly outputBias: (config: ConfigReader) => boolean;
  readonly qkNorm: boolean;
  readonly attentionSinks: boolean;
  readonly fusedModules: boolean;
  /** Of each layer; undefined: all of them rotate. */
  readonly rotations?: (config: ConfigReader, layers: number) => readonly boolean[];
  /** Of each layer. */
  readonly windows: (config: ConfigReader, layers: number) => readonly number[];
  /** Of each layer. */
  readonly feedForwards: (config: ConfigReader, layers: number) => readonly FeedForward[];
  /** When config.json gives none; undefined is hidden size over heads. */
  readonly defaultHeadDim: number | undefined;
  /** When config.json says nothing of it. */
  readonly defaultTiedHead: boolean;
  /** The key under which config.json has the text model, where that is a part. */
  readonly textKey?: string;
  /** What config.json calls the architecture where it does not name the class. */
  readonly modelType: string;
  /** Keys of config.json that only this architecture and some others have a use for. */
  readonly keys: readonly string[];
}

const always = () => true;
const never = () => false;
const attentionBias = (config: ConfigReader) => config.boolean('attention_bias', false);
const noWindow = (_config: ConfigReader, layers: number) => alike(layers, 0);

function alike<Value>(layers: number, value: Value): readonly Value[] {
  return new Array<Value>(layers).fill(value);
}

const dense =
  (bias: (config: ConfigReader) => boolean): Traits['feedForwards'] =>
  (config, layers) =>
    alike(layers, denseOf(config, bias(config)));

function denseOf(config: ConfigReader, bias: boolean): FeedForward {
  return { kind: 'dense', intermediateSize: config.integer('intermediate_size', 1), bias };
}

const TRAITS: Readonly<Record<Architecture, Traits>> = {
  LlamaForCausalLM: {
    qkvBias: attentionBias,
    outputBias: attentionBias,
    qkNorm: false,
    attentionSinks: false,
    fusedModules: false,
    windows: noWindow,
    feedForwards: dense((config) => config.boolean('mlp_bias', false)),
    defaultHeadDim: undefined,
    defaultTiedHead: false,
    modelType: 'llama',
    keys: ['attention_bias', 'mlp_bias'],
  },
  MistralForCausalLM: {
    qkvBias: never,
    outputBias: never,
    qkNorm: false,
    attentionSinks: false,
    fusedModules: false,
    windows: mistralWindows,
    feedForwards: dense(never),
    defaultHeadDim: undefined,
    defaultTiedHead: false,
    modelType: 'mistral',
    keys: ['sliding_window'],
  },
  Mistral3ForConditionalGeneration: {
    qkvBias: never,
    outputBias: never,
    qkNorm: false,
    attentionSinks: false,
    fusedModules: false,
    windows: mistralWindows,
    feedForwards: dense(never),
    defaultHeadDim: undefined,
    defaultTiedHead: false,
    textKey: 'text_config',
    modelType: 'mistral3',
    keys: ['sliding_window'],
  },
  Qwen2ForCausalLM: {
    qkvBias: always,
    outputBias: never,
    qkNorm: false,
    attentionSinks: false,
    fusedModules: false,
    windows: qwenWindows,
    feedForwards: dense(never),
    defaultHeadDim: undefined,
    defaultTiedHead: false,
    modelType: 'qwen2',
    keys: ['max_window_layers', 'sliding_window', 'use_sliding_window'],
  },
  Qwen3ForCausalLM: {
    qkvBias: attentionBias,
    outputBias: attentionBias,
    qkNorm: true,
    attentionSinks: false,
    fusedModules: false,
    windows: qwenWindows,
    feedForwards: dense(never),
    defaultHeadDim: 128,
    defaultTiedHead: false,
    modelType: 'qwen3',
    keys: ['attention_bias', 'max_window_layers', 'sliding_window', 'use_sliding_window'],
  },
  Qwen3MoeForCausalLM: {
    qkvBias: attentionBias,
    outputBias: attentionBias,
    qkNorm: true,
    attentionSinks: false,
    fusedModules: false,
    windows: qwenWindows,
    feedForwards: qwenExperts,
    defaultHeadDim: undefined,
    defaultTiedHead: false,
    modelType: 'qwen3_moe',
    keys: [
      ...['attention_bias', 'max_window_layers', 'sliding_window', 'use_sliding_window'],
      ...['decoder_sparse_step', 'mlp_only_layers', 'moe_intermediate_size', 'norm_topk_prob'],
      ...['num_experts', 'num_experts_per_tok'],
    ],
  },
  GptOssForCausalLM: {
    qkvBias: attentionBias,
    outputBias: attentionBias,
    qkNorm: false,
    attentionSinks: true,
    fusedModules: false,
    windows: alternatingWindows,
    feedForwards: (config, layers) => alike(layers, describeGptOssExperts(config)),
    defaultHeadDim: 64,
    defaultTiedHead: false,
    modelType: 'gpt_oss',
    keys: [
      ...['attention_bias', 'sliding_window', 'initial_context_length', 'swiglu_limit'],
      ...['swiglu_alpha', 'num_local_experts', 'num_experts_per_tok', 'experts_per_token'],
    ],
  },
  Phi3ForCausalLM: {
    qkvBias: never,
    outputBias: never,
    qkNorm: false,
    attentionSinks: false,
    fusedModules: true,
    windows: windowIfGiven,
    feedForwards: dense(never),
    defaultHeadDim: undefined,
    defaultTiedHead: false,
    modelType: 'phi3',
    keys: ['sliding_window', 'original_max_position_embeddings'],
  },
  SmolLM3ForCausalLM: {
    qkvBias: attentionBias,
    outputBias: attentionBias,
    qkNorm: false,
    attentionSinks: false,
    fusedModules: false,
    rotations: rotationsByLayer,
    windows: noWindow,
    feedForwards: dense((config) => config.boolean('mlp_bias', false)),
    defaultHeadDim: undefined,
    defaultTiedHead: true,
    modelType: 'smollm3',
    keys: ['attention_bias', 'mlp_bias', 'no_rope_layers', 'no_rope_layer_interval'],
  },
};

const STORED_TYPES: Readonly<Record<string, StoredType>> = {
  bfloat16: 'bf16',
  float16: 'f16',
  float32: 'f32',
};

/** An explicit null is no window; an absent key is what transformers' class defaults to, 4096. */
function mistralWindows(config: ConfigReader, layers: number): readonly number[] {
  return config.has('sliding_window') ? windowIfGiven(config, layers) : alike(layers, 4096);
}

/** None is what is left out. */
function windowIfGiven(config: ConfigReader, layers: number): readonly number[] {
  const isGiven = config.get('sliding_window') !== undefined;
  return alike(layers, isGiven ? config.integer('sliding_window', 1) : 0);
}

/**
 * As `no_rope_layers` says, with a 1 for each layer that rotates; where it is absent, all but every
 * `no_rope_layer_interval`th. (The name is the other way round.)
 */
function rotationsByLayer(config: ConfigReader, layers: number): readonly boolean[] {
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

/** Layers from `max_window_layers` on are windowed. */
function qwenWindows(config: ConfigReader, layers: number): readonly number[] {
  if (!config.boolean('use_sliding_window', false)) return alike(layers, 0);
  const fullLayers = config.integer('max_window_layers', 0, layers);
  if (fullLayers >= layers) return alike(layers, 0);
  const window = config.integer('sliding_window', 1, 4096);
  return Array.from({ length: layers }, (_, layer) => (layer < fullLayers ? 0 : window));
}

const LAYER_TYPES = ['full_attention', 'sliding_attention'] as const;

/** As `layer_types` says; where it is absent, every other layer from the first on is windowed. */
function alternatingWindows(config: ConfigReader, layers: number): readonly number[] {
  const window = config.integer('sliding_window', 1, 128);
  const types = layerTypes(config, layers) ?? alternating(layers);
  return types.map((type) => (type === 'sliding_attention' ? window : 0));
}

function alternating(layers: number): readonly string[] {
  return Array.from({ length: layers }, (_, layer) => LAYER_TYPES[layer % 2 === 0 ? 1 : 0]);
}

/** `layer_types`, an entry for each layer; undefined where config.json has none. */
function layerTypes(config: ConfigReader, layers: number): readonly string[] | undefined {
  const types = config.get('layer_types');
  if (types === undefined) return undefined;
  if (!Array.isArray(types) || types.length !== layers) {
    const found = Array.isArray(types) ? `has ${types.length} entries` : `is ${show(types)}`;
    const message = `${found}; it must have one for each of the ${layers} layers`;
    throw config.error('malformed', 'layer_types', message);
  }
  for (const type of types) {
    if (LAYER_TYPES.includes(type)) continue;
    const supported = LAYER_TYPES.join(', ');
    throw config.error('unsupported', 'layer_types', `has ${show(type)}; supported: ${supported}`);
  }
  return types as string[];
}

/** Experts in every `decoder_sparse_step`th layer that `mlp_only_layers` does not name. */
function qwenExperts(config: ConfigReader, layers: number): readonly FeedForward[] {
  const step = config.integer('decoder_sparse_step', 1, 1);
  const named = config.get('mlp_only_layers') ?? [];
  const isLayer = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;
  if (!Array.isArray(named) || !named.every(isLayer)) {
    throw config.error('malformed', 'mlp_only_layers', 'must be a list of layers');
  }
  const isDense = (layer: number) => named.includes(layer) || (layer + 1) % step !== 0;
  const kinds = Array.from({ length: layers }, (_, layer) => isDense(layer));
  const experts = kinds.includes(false) ? describeQwenExperts(config) : undefined;
  const plain = kinds.includes(true) ? denseOf(config, false) : undefined;
  return kinds.map((isPlain) => (isPlain ? plain! : experts!));
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

/** Keys of a model that also sees which hold for its text as well. */
const SHARED_KEYS = [
  ...['architectures', 'bos_token_id', 'dtype', 'eos_token_id', 'quantization_config'],
  ...['tie_word_embeddings', 'torch_dtype', 'vocab_size'],
];
/** Keys of what stands beside the text model, and is left aside. */
const BESIDE_TEXT = new Set([
  ...['image_token_id', 'image_token_index', 'model_type', 'multimodal_projector_bias'],
  ...['projector_hidden_act', 'spatial_merge_size', 'vision_config', 'vision_feature_layer'],
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
function refuseUnsupported(config: ConfigReader): void {
  config.choice('hidden_act', ['silu'], 'silu');
  const partial = config.get('partial_rotary_factor') ?? 1;
  if (partial !== 1) {
    throw config.error('unsupported', 'partial_rotary_factor', 'is not 1; supported: 1');
  }
}

/** The windows follow from other keys, which `layer_types` must not contradict. */
function checkLayerTypes(config: ConfigReader, windows: readonly number[]): void {
  const types = layerTypes(config, windows.length);
  windows.forEach((window, layer) => {
    const kind = LAYER_TYPES[window === 0 ? 0 : 1];
    const found = types?.[layer] ?? kind;
    if (found === kind) return;
    const expected = `the other keys make layer ${layer} one of ${kind}`;
    throw config.error('unsupported', 'layer_types', `has ${show(found)}, but ${expected}`);
  });
}

/** MXFP4 is how gpt-oss has its experts, and nothing else is. */
function checkQuantization(config: ConfigReader, kinds: readonly LayerKind[]): Quantization | null {
  const quantization = describeQuantization(config);
  const isStacked = kinds.some(
    ({ feedForward }) => feedForward.kind === 'experts' && feedForward.stored === 'mxfp4 stack',
  );
  if (isStacked === (quantization?.method === 'mxfp4')) return quantization;
  const found = quantization === null ? 'is missing' : `is of method ${quantization.method}`;
  const wanted = isStacked ? 'mxfp4' : 'fp8, compressed-tensors, or none';
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
  const whole = new ConfigReader(configJson, 'config.json');
  const architecture = architectureOf(whole);
  const traits = TRAITS[architecture];
  const config = traits.textKey === undefined ? whole : textConfigOf(whole, traits.textKey);
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
  const windows = traits.windows(config, layers);
  checkLayerTypes(config, windows);
  const feedForwards = traits.feedForwards(config, layers);
  const rotations = traits.rotations?.(config, layers) ?? alike(layers, true);
  const layerKinds = windows.map((window, layer) => ({
    window,
    rotates: rotations[layer]!,
    feedForward: feedForwards[layer]!,
  }));
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
    layerKinds,
    vocabularySize,
    rmsNormEpsilon: config.positive('rms_norm_eps', 1e-6),
    maxPositions,
    rope: { theta, scaling },
    qkvBias: traits.qkvBias(config),
    outputBias: traits.outputBias(config),
    fusedModules: traits.fusedModules,
    qkNorm: traits.qkNorm,
    attentionSinks: traits.attentionSinks,
    tiedHead: config.boolean('tie_word_embeddings', traits.defaultTiedHead),
    eosTokenIds: [...eosTokenIds],
    bosTokenId: tokenIds(config, 'bos_token_id', vocabularySize)[0],
    storedType: storedTypeOf(config),
    quantization: checkQuantization(config, layerKinds),
  };
}
