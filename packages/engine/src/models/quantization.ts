import { type ConfigReader, show } from './config-reader.ts';
import { isNamed, readPatterns } from './module-patterns.ts';
import {
  describeAwq,
  describeGptq,
  describePacked,
  INT4_SUPPORTED,
  type Int4Quantization,
} from './quantization-int4.ts';

/** How a checkpoint's scales lie over a weight [outputs, inputs]. */
export type ScaleGrid =
  /** One scale. */
  | { readonly type: 'tensor' }
  /** One for each output. */
  | { readonly type: 'channel' }
  /** One for each block; those at the edges may be partial. */
  | { readonly type: 'block'; readonly outputs: number; readonly inputs: number };

/** What of a checkpoint is not stored in plain numbers. */
export type Quantization = LinearQuantization | Mxfp4Quantization;
/** Linear layers that are. */
export type LinearQuantization = Fp8Quantization | Int4Quantization;

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
  'float-quantized 8-bit weights (a scale for each tensor, channel or block), ' +
  `${INT4_SUPPORTED}, mxfp4 (stacked experts, E2M1 with a scale for each 32), and unquantized ` +
  'bf16, f16 and f32';

/** How linear layers are stored, where any are quantised. */
export function linearsOf(quantization: Quantization | null): LinearQuantization | null {
  return quantization?.method === 'mxfp4' ? null : quantization;
}

/** How linear layers are stored as FP8, where any are. */
export function fp8Of(quantization: Quantization | null): Fp8Quantization | null {
  const linears = linearsOf(quantization);
  return linears?.method === 'int4' ? null : linears;
}

/** How linear layers are stored as integers of 4 bits, where any are. */
export function int4Of(quantization: Quantization | null): Int4Quantization | null {
  return quantization?.method === 'int4' ? quantization : null;
}

/** Whether the linear layer of this name is quantised. */
export function isQuantized(quantization: Quantization | null, module: string): boolean {
  const linears = linearsOf(quantization);
  if (linears === null) return false;
  const { targets, ignored } = linears;
  return (targets.length === 0 || isNamed(module, targets)) && !isNamed(module, ignored);
}

/**
 * Reads `quantization_config` of config.json; null when there is none. Formats: transformers'
 * FineGrainedFP8Config and vLLM's Fp8Config (`quant_method: fp8`), compressed-tensors, and those of
 * quantization-int4.ts.
 */
export function describeQuantization(config: ConfigReader): Quantization | null {
  const quantization = config.object('quantization_config');
  if (quantization === undefined) return null;
  const method = quantization.get('quant_method');
  if (method === 'fp8') return describeFp8(quantization);
  if (method === 'mxfp4') return { method };
  if (method === 'awq') return describeAwq(quantization);
  if (method === 'gptq') return describeGptq(quantization);
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
      ...readPatterns(quantization, 'modules_to_not_convert'),
      ...readPatterns(quantization, 'ignored_layers'),
    ],
  };
}

function describeCompressedTensors(quantization: ConfigReader): LinearQuantization {
  const formats = ['float-quantized', 'pack-quantized'] as const;
  const format = quantization.choice('format', formats, 'float-quantized')!;
  const isPacked = format === 'pack-quantized';
  // What is packed has names of its own, whatever status older tools gave it.
  const statuses = isPacked ? ['compressed', 'frozen'] : ['compressed'];
  quantization.choice('quantization_status', statuses, 'compressed');
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
  group.choice('format', [format], format);
  const targets = readPatterns(group, 'targets');
  const modules = {
    // Every product with a weight is of torch's class Linear.
    targets: targets.includes('Linear') ? [] : targets,
    ignored: readPatterns(quantization, 'ignore'),
  };
  if (isPacked) return { ...describePacked(quantization, group, weights), ...modules };
  return { method: 'compressed-tensors', grid: compressedGrid(weights), ...modules };
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
