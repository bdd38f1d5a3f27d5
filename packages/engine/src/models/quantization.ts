import { type ConfigReader, show } from './config-reader.ts';
import { isNamed, patternFault } from './module-patterns.ts';

/** How a checkpoint's scales lie over a weight [outputs, inputs]. */
export type ScaleGrid =
  /** One scale. */
  | { readonly type: 'tensor' }
  /** One for each output. */
  | { readonly type: 'channel' }
  /** One for each block; those at the edges may be partial. */
  | { readonly type: 'block'; readonly outputs: number; readonly inputs: number };

/** What of a checkpoint is not stored in plain numbers. */
export type Quantization = Fp8Quantization | Mxfp4Quantization;

/** Stacked experts in MXFP4, and nothing else. */
export interface Mxfp4Quantization {
  readonly method: 'mxfp4';
}

/**
 * Which linear layers of a checkpoint are stored as FP8 (E4M3). Values are codes times scales;
 * activations are not quantised, whatever the configuration says of them.
 */
export interface Fp8Quantization {
  readonly method: 'fp8' | 'compressed-tensors';
  readonly grid: ScaleGrid;
  /** Modules that are quantised, as in module-patterns.ts; empty: all. */
  readonly targets: readonly string[];
  /** Modules that are not. */
  readonly ignored: readonly string[];
}

/** What published FP8 checkpoints use, and what dummy weights get when told to be FP8. */
export const FP8_BLOCKS: Fp8Quantization = {
  method: 'fp8',
  grid: { type: 'block', outputs: 128, inputs: 128 },
  targets: [],
  ignored: [],
};

const SUPPORTED =
  'supported: fp8 (E4M3 with one scale a tensor or in blocks), compressed-tensors ' +
  'float-quantized 8-bit weights (a scale for each tensor, channel or block), mxfp4 (stacked ' +
  'experts, E2M1 with a scale for each 32), and unquantized bf16, f16 and f32';

/** How linear layers are stored as FP8, where any are. */
export function fp8Of(quantization: Quantization | null): Fp8Quantization | null {
  return quantization?.method === 'mxfp4' ? null : quantization;
}

/** Whether the linear layer of this name is stored as FP8. */
export function isQuantized(quantization: Quantization | null, module: string): boolean {
  const fp8 = fp8Of(quantization);
  if (fp8 === null) return false;
  const { targets, ignored } = fp8;
  return (targets.length === 0 || isNamed(module, targets)) && !isNamed(module, ignored);
}

/**
 * Reads `quantization_config` of config.json; null when there is none. Formats: transformers'
 * FineGrainedFP8Config and vLLM's Fp8Config (`quant_method: fp8`), and compressed-tensors.
 */
export function describeQuantization(config: ConfigReader): Quantization | null {
  const quantization = config.object('quantization_config');
  if (quantization === undefined) return null;
  const method = quantization.get('quant_method');
  if (method === 'fp8') return describeFp8(quantization);
  if (method === 'mxfp4') return { method };
  if (method === 'compressed-tensors') return describeCompressedTensors(quantization);
  const found = method === undefined ? 'unnamed' : show(method);
  throw config.error('unsupported', 'quantization_config', `is of method ${found}; ${SUPPORTED}`);
}

function describeFp8(quantization: ConfigReader): Fp8Quantization {
  quantization.choice('fmt', ['e4m3'], 'e4m3');
  quantization.choice('activation_scheme', ['dynamic', 'static'], 'dynamic');
  const isBlocked = quantization.get('weight_block_size') !== undefined;
  return {
    method: 'fp8',
    grid: isBlocked ? blockGrid(quantization, 'weight_block_size') : { type: 'tensor' },
    targets: [],
    ignored: [
      ...patterns(quantization, 'modules_to_not_convert'),
      ...patterns(quantization, 'ignored_layers'),
    ],
  };
}

function describeCompressedTensors(quantization: ConfigReader): Fp8Quantization {
  quantization.choice('format', ['float-quantized'], 'float-quantized');
  quantization.choice('quantization_status', ['compressed'], 'compressed');
  quantization.object('sparsity_config')?.choice('format', ['dense'], 'dense');
  const transforms = quantization.object('transform_config');
  if (transforms !== undefined && transforms.keys().length > 0) {
    throw quantization.error('unsupported', 'transform_config', `transforms weights; ${SUPPORTED}`);
  }
  const groups = quantization.object('config_groups');
  const [name, ...more] = groups?.keys() ?? [];
  if (groups === undefined || name === undefined || more.length > 0) {
    const found = groups === undefined ? 'is missing' : `has ${groups.keys().length} groups`;
    throw quantization.error('unsupported', 'config_groups', `${found}; supported: one group`);
  }
  const group = groups.object(name);
  const weights = group?.object('weights');
  if (group === undefined || weights === undefined) {
    throw groups.error('malformed', name, 'says nothing of weights');
  }
  group.choice('format', ['float-quantized'], 'float-quantized');
  const targets = patterns(group, 'targets');
  return {
    method: 'compressed-tensors',
    grid: compressedGrid(weights),
    // Every product with a weight is of torch's class Linear.
    targets: targets.includes('Linear') ? [] : targets,
    ignored: patterns(quantization, 'ignore'),
  };
}

function compressedGrid(weights: ConfigReader): ScaleGrid {
  weights.choice('type', ['float']);
  if (weights.integer('num_bits', 1) !== 8) {
    throw weights.error('unsupported', 'num_bits', `is not 8; ${SUPPORTED}`);
  }
  for (const [key, accepted] of [
    ['symmetric', true],
    ['dynamic', false],
  ] as const) {
    if (weights.boolean(key, accepted) !== accepted) {
      throw weights.error('unsupported', key, `is ${!accepted}; supported: ${accepted}`);
    }
  }
  const strategy = weights.choice('strategy', ['tensor', 'channel', 'block']);
  if (strategy === 'block') return blockGrid(weights, 'block_structure');
  if (strategy !== undefined) return { type: strategy };
  throw weights.error('malformed', 'strategy', 'is missing: tensor, channel or block');
}

/** `[outputs, inputs]` of a block. */
function blockGrid(config: ConfigReader, key: string): ScaleGrid {
  const value = config.get(key);
  const [outputs, inputs, ...more] = Array.isArray(value) ? (value as unknown[]) : [];
  if (!isBlockSize(outputs) || !isBlockSize(inputs) || more.length > 0) {
    throw config.error('malformed', key, 'must be two whole numbers above 0: outputs, inputs');
  }
  return { type: 'block', outputs, inputs };
}

function isBlockSize(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) < 2 ** 31;
}

/** A list of modules; absent is empty. */
function patterns(config: ConfigReader, key: string): readonly string[] {
  const value = config.get(key) ?? [];
  const isTexts = Array.isArray(value) && value.every((entry) => typeof entry === 'string');
  if (!isTexts) throw config.error('malformed', key, 'must be a list of module names');
  for (const entry of value as string[]) {
    const fault = patternFault(entry);
    if (fault === undefined) continue;
    throw config.error('unsupported', key, `has ${show(entry)}, which ${fault}`);
  }
  return value as string[];
}
