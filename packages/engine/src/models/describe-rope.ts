import { ConfigReader } from './config-reader.ts';
import type { Rope, RopeScaling } from './spec.ts';

interface Described {
  readonly ropes: readonly Rope[];
  /** `max_position_embeddings`, stretched where the scaling says so. */
  readonly maxPositions: number;
}

const ROPE_TYPES = ['default', 'linear', 'llama3', 'yarn', 'proportional'] as const;
type RopeType = (typeof ROPE_TYPES)[number];

/** Keys that are read for each type, beside those that all have. */
const TYPE_KEYS: Readonly<Record<RopeType, readonly string[]>> = {
  default: [],
  linear: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
  yarn: [
    'factor',
    'original_max_position_embeddings',
    'beta_fast',
    'beta_slow',
    'attention_factor',
    'attn_factor',
    'mscale',
    'mscale_all_dim',
    'truncate',
  ],
  proportional: ['factor'],
};
const COMMON_KEYS = [
  ...['type', 'rope_type', 'rope_theta', 'partial_rotary_factor'],
  // Of queries; families read it.
  'llama_4_scaling_beta',
  // Of images: text has the same position in all of its sections.
  ...['mrope_section', 'mrope_interleaved'],
];

const IDLE = new Set(['original_max_position_embeddings', 'max_position_embeddings']);
const IDLE_AT_1 = new Set(['factor', 'attn_factor', 'attention_factor', 'extrapolation_factor']);

/** What is not read would change the positions. */
function refuseUnreadParameters(parameters: ConfigReader, type: RopeType): void {
  const read = [...COMMON_KEYS, ...TYPE_KEYS[type]];
  for (const key of parameters.keys()) {
    const value = parameters.get(key);
    const isIdle = IDLE.has(key) || (IDLE_AT_1.has(key) && value === 1);
    if (value === undefined || read.includes(key) || isIdle) continue;
    const known = read.join(', ');
    throw parameters.error('unsupported', key, `is not read for rope type ${type}; read: ${known}`);
  }
}

const NO_PARAMETERS = new ConfigReader({}, 'config.json: "rope_parameters"');

/** 0.1 mscale ln(factor) + 1: equation 22 of arXiv 2309.00071, with DeepSeek's `mscale`. */
function yarnMagnitude(factor: number, mscale: number): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/**
 * Given outright, or the ratio of two magnitudes where both mscales are set, or the paper's own;
 * `attn_factor` multiplies what is not given outright. (transformers ignores `attn_factor`. Users
 * of DeepSeek-R1-0528-Qwen3-8B, whose value makes the product 1, found it to be meant:
 * deepseek-ai/DeepSeek-R1#684.)
 */
function yarnAttentionFactor(parameters: ConfigReader, factor: number): number {
  if (parameters.get('attention_factor') !== undefined) {
    return parameters.positive('attention_factor');
  }
  const multiplier = parameters.positive('attn_factor', 1);
  const isSet = (key: string) => (parameters.get(key) ?? 0) !== 0;
  if (isSet('mscale') && isSet('mscale_all_dim')) {
    const over = yarnMagnitude(factor, parameters.positive('mscale'));
    return (multiplier * over) / yarnMagnitude(factor, parameters.positive('mscale_all_dim'));
  }
  return multiplier * yarnMagnitude(factor, 1);
}

function describeYarn(parameters: ConfigReader, maxPositions: number): RopeScaling {
  const originalMaxPositions = parameters.integer(
    'original_max_position_embeddings',
    1,
    maxPositions,
  );
  const factor = parameters.positive('factor', maxPositions / originalMaxPositions);
  return {
    type: 'yarn',
    factor,
    originalMaxPositions,
    betaFast: parameters.positive('beta_fast', 32),
    betaSlow: parameters.positive('beta_slow', 1),
    attentionFactor: yarnAttentionFactor(parameters, factor),
    truncate: parameters.boolean('truncate', true),
  };
}

function describeLlama3(parameters: ConfigReader): RopeScaling {
  const low = parameters.positive('low_freq_factor');
  const high = parameters.positive('high_freq_factor');
  if (high <= low) {
    throw parameters.error('malformed', 'high_freq_factor', 'must be above low_freq_factor');
  }
  return {
    type: 'llama3',
    factor: parameters.positive('factor'),
    lowFrequencyFactor: low,
    highFrequencyFactor: high,
    originalMaxPositions: parameters.integer('original_max_position_embeddings', 1),
  };
}

/** As transformers counts the pairs that turn. */
function describeProportional(
  parameters: ConfigReader,
  headDim: number,
  part: unknown,
): RopeScaling {
  if (typeof part !== 'number' || !(part > 0 && part <= 1)) {
    throw parameters.error('malformed', 'partial_rotary_factor', 'must be above 0, and at most 1');
  }
  const turning = Math.floor((part * headDim) / 2);
  return { type: 'proportional', factor: parameters.positive('factor', 1), turning };
}

function describeScaling(
  type: Exclude<RopeType, 'proportional'>,
  parameters: ConfigReader,
  maxPositions: number,
): RopeScaling {
  switch (type) {
    case 'default':
      return { type: 'none' };
    case 'linear':
      return { type: 'linear', factor: parameters.positive('factor') };
    case 'llama3':
      return describeLlama3(parameters);
    case 'yarn':
      return describeYarn(parameters, maxPositions);
  }
}

/**
 * llama3's own configurations state the stretched length; linear and yarn ones often state the
 * trained one.
 */
function stretchedPositions(scaling: RopeScaling, maxPositions: number): number {
  switch (scaling.type) {
    case 'linear':
      return Math.floor(maxPositions * scaling.factor);
    case 'yarn':
      return Math.floor(scaling.originalMaxPositions * scaling.factor);
    default:
      return maxPositions;
  }
}

/** Dims of a head that rotate: `factor` of them, as transformers rounds that. */
function rotaryDimOf(parameters: ConfigReader, headDim: number, factor: unknown): number {
  if (factor === 1) return headDim;
  const dims = typeof factor === 'number' ? Math.trunc(headDim * factor) : Number.NaN;
  if (dims >= 2 && dims <= headDim && dims % 2 === 0) return dims;
  const message = `must leave an even number of the ${headDim} dims of a head`;
  throw parameters.error('unsupported', 'partial_rotary_factor', message);
}

interface RopeDefaults {
  readonly headDim: number;
  readonly rotaryFactor: number;
  readonly theta: number;
}

function ropeOf(
  parameters: ConfigReader,
  type: RopeType,
  config: ConfigReader,
  { headDim, rotaryFactor, theta }: RopeDefaults,
): Rope {
  refuseUnreadParameters(parameters, type);
  const factor =
    parameters.get('partial_rotary_factor') ?? config.get('partial_rotary_factor') ?? rotaryFactor;
  const base = parameters.positive('rope_theta', theta);
  if (type === 'proportional') {
    const scaling = describeProportional(parameters, headDim, factor);
    return { theta: base, scaling, rotaryDim: headDim };
  }
  return {
    theta: base,
    scaling: describeScaling(type, parameters, config.integer('max_position_embeddings', 1)),
    rotaryDim: rotaryDimOf(parameters, headDim, factor),
  };
}

/**
 * Reads rotary positions from `rope_parameters`, or from the older `rope_theta` and `rope_scaling`.
 * `rotaryFactor` and `defaultTheta` are for where config.json says nothing of them.
 */
export function describeRope(
  config: ConfigReader,
  headDim: number,
  rotaryFactor: number,
  defaultTheta = 10_000,
): Described {
  const named = config.object('rope_parameters') ?? config.object('rope_scaling');
  const parameters = named ?? NO_PARAMETERS;
  const typeKey = parameters.get('rope_type') === undefined ? 'type' : 'rope_type';
  const type = parameters.choice(typeKey, ROPE_TYPES, named ? undefined : 'default');
  const isNewSpelling = config.get('rope_parameters') !== undefined;
  if (type === undefined && !(isNewSpelling && parameters.get('rope_theta') !== undefined)) {
    throw parameters.error('malformed', 'rope_type', `is missing: ${ROPE_TYPES.join(', ')}`);
  }
  const theta = config.positive('rope_theta', defaultTheta);
  const rope = ropeOf(parameters, type ?? 'default', config, { headDim, rotaryFactor, theta });
  const maxPositions = config.integer('max_position_embeddings', 1);
  return { ropes: [rope], maxPositions: stretchedPositions(rope.scaling, maxPositions) };
}

interface Thetas {
  /** Of layers with full attention, where config.json gives none. */
  readonly theta: number;
  /** The older key of windowed layers' own; undefined: they have the same. */
  readonly localKey: string | undefined;
  readonly localTheta?: number;
  /** Of layers with full attention, where config.json has nothing of them; absent: plain. */
  readonly full?: Readonly<Record<string, unknown>>;
}

/**
 * One rope for layers with full attention, and one for windowed layers, which is not scaled:
 * `rope_parameters` by type of layer, or the older `rope_theta`, `rope_scaling` and `localKey`.
 */
export function ropesByType(
  config: ConfigReader,
  headDim: number,
  thetas: Thetas,
  fullHeadDim = headDim,
): Described {
  const all = config.object('rope_parameters') ?? NO_PARAMETERS;
  for (const key of all.keys()) {
    if (key === 'full_attention' || key === 'sliding_attention') continue;
    const message = 'is no type of layer: full_attention, sliding_attention';
    throw all.error('unsupported', key, message);
  }
  const theta = config.positive('rope_theta', thetas.theta);
  const { localKey, localTheta: usualLocal = theta } = thetas;
  const localTheta = localKey === undefined ? usualLocal : config.positive(localKey, usualLocal);
  const read = (parameters: ConfigReader | undefined, own: number, headDim: number) => {
    const given = parameters ?? NO_PARAMETERS;
    const typeKey = given.get('rope_type') === undefined ? 'type' : 'rope_type';
    const type = given.choice(typeKey, ROPE_TYPES, 'default')!;
    return ropeOf(given, type, config, { headDim, rotaryFactor: 1, theta: own });
  };
  const usual = thetas.full && new ConfigReader(thetas.full, 'config.json: "rope_parameters"');
  const given = all.object('full_attention') ?? config.object('rope_scaling') ?? usual;
  const full = read(given, theta, fullHeadDim);
  const local = read(all.object('sliding_attention'), localTheta, headDim);
  // Gemma and Olmo state the stretched length.
  return { ropes: [full, local], maxPositions: config.integer('max_position_embeddings', 1) };
}
