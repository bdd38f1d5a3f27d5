import type { Int4Order } from '@bridgekeeper/device';
import { type ConfigReader, show } from './config-reader.ts';
import { readPatterns } from './module-patterns.ts';

/**
 * Which linear layers of a checkpoint are stored as integers of 4 bits, (code - zero) * scale, and
 * how. Embeddings and the head never are.
 */
export interface Int4Quantization {
  readonly method: 'int4';
  /** Who packs codes, scales and zero points so. */
  readonly order: Int4Order;
  /** Inputs that share a scale and a zero point; null: all of them. */
  readonly group: number | null;
  /** Whether zero points are stored; they are 8 otherwise. */
  readonly hasZeros: boolean;
  /** What is added to stored zero points. */
  readonly zeroOffset: 0 | 1;
  /** Modules that are quantised, as in module-patterns.ts; empty: all. */
  readonly targets: readonly string[];
  /** Modules that are not. */
  readonly ignored: readonly string[];
}

type Described = Omit<Int4Quantization, 'targets' | 'ignored'>;

/** What the formats are called, for messages. */
export const INT4_NAMES = {
  awq: 'AWQ',
  gptq: 'GPTQ',
  rows: 'compressed-tensors int4',
} as const;

export const INT4_SUPPORTED =
  'awq (4 bits, version gemm), gptq (4 bits, without desc_act), compressed-tensors ' +
  'pack-quantized 4-bit weights';

/** The smallest group, of which others are multiples. */
const GROUP_UNIT = 32;

/**
 * `quant_method: awq`, as AutoAWQ's WQLinear_GEMM packs it. Throws ModelError `malformed` or
 * `unsupported`, here and below, also for keys that are not known.
 */
export function describeAwq(config: ConfigReader): Int4Quantization {
  refuseOthers(config, AWQ_KEYS);
  requireBits(config, 'bits');
  for (const key of ['version', 'format', 'checkpoint_format']) {
    const value = config.get(key);
    if (value === undefined || (typeof value === 'string' && value.toLowerCase() === 'gemm'))
      continue;
    throw config.error('unsupported', key, `is ${show(value)}; supported: gemm`);
  }
  requireBoolean(config, 'zero_point', true);
  return {
    method: 'int4',
    order: 'awq',
    group: int4Group(config),
    hasZeros: true,
    zeroOffset: 0,
    targets: [],
    ignored: readPatterns(config, 'modules_to_not_convert'),
  };
}

/** `quant_method: gptq`, as AutoGPTQ and GPTQModel pack it. */
export function describeGptq(config: ConfigReader): Int4Quantization {
  refuseOthers(config, GPTQ_KEYS);
  requireBits(config, 'bits');
  for (const key of ['desc_act', 'is_marlin_format', 'lm_head']) requireBoolean(config, key, false);
  config.boolean('sym', true);
  config.choice('pack_dtype', ['int32'], 'int32');
  for (const key of GPTQ_ABSENT) {
    const value = config.get(key);
    if (value === undefined || show(value) === '{}') continue;
    throw config.error('unsupported', key, `is ${show(value)}; supported: null`);
  }
  const formats = ['gptq', 'gptq_v2'] as const;
  const format = config.choice('format', formats, 'gptq');
  return {
    method: 'int4',
    order: 'gptq',
    group: int4Group(config),
    hasZeros: true,
    // The first version stores zero points less one.
    zeroOffset: config.choice('checkpoint_format', formats, format) === 'gptq' ? 1 : 0,
    targets: [],
    ignored: [],
  };
}

/** Format `pack-quantized` of compressed-tensors: its one group, and what that says of weights. */
export function describePacked(
  config: ConfigReader,
  group: ConfigReader,
  weights: ConfigReader,
): Described {
  refuseOthers(config, PACKED_KEYS);
  refuseOthers(group, PACKED_GROUP_KEYS);
  refuseOthers(weights, PACKED_WEIGHTS_KEYS);
  requireBits(weights, 'num_bits');
  weights.choice('type', ['int']);
  requireBoolean(weights, 'dynamic', false);
  const order = weights.get('actorder') ?? false;
  // By order of columns, but with groups as they come.
  if (order !== false && order !== 'weight' && order !== 'static') {
    const message = `is ${show(order)}; supported: null, weight, static`;
    throw weights.error('unsupported', 'actorder', message);
  }
  const strategy = weights.choice('strategy', ['group', 'channel'], 'group');
  return {
    method: 'int4',
    order: 'rows',
    group: strategy === 'channel' ? null : int4Group(weights),
    hasZeros: !weights.boolean('symmetric', true),
    zeroOffset: 0,
  };
}

function int4Group(config: ConfigReader): number | null {
  const value = config.get('group_size');
  if (value === -1) return null;
  const size = config.integer('group_size', 1);
  if (size % GROUP_UNIT === 0) return size;
  const message = `is ${size}; supported: multiples of ${GROUP_UNIT}, or -1 for whole rows`;
  throw config.error('unsupported', 'group_size', message);
}

function requireBits(config: ConfigReader, key: string): void {
  const bits = config.integer(key, 1);
  if (bits !== 4) throw config.error('unsupported', key, `is ${bits}; supported: 4`);
}

function requireBoolean(config: ConfigReader, key: string, accepted: boolean): void {
  if (config.boolean(key, accepted) === accepted) return;
  throw config.error('unsupported', key, `is ${!accepted}; supported: ${accepted}`);
}

/** A key that is not known may change what codes mean. */
function refuseOthers(config: ConfigReader, known: ReadonlySet<string>): void {
  for (const key of config.keys()) {
    if (known.has(key) || config.get(key) === undefined) continue;
    const advice = 'if it changes nothing of stored weights, take it out of config.json';
    const message = `is ${show(config.get(key))}, which is not known here: ${advice}`;
    throw config.error('unsupported', key, message);
  }
}

/** Those that are read, and those of other software's kernels. */
const AWQ_KEYS = new Set([
  ...['backend', 'bits', 'checkpoint_format', 'do_fuse', 'exllama_config', 'format'],
  ...['fuse_max_seq_len', 'group_size', 'meta', 'method', 'modules_to_fuse'],
  ...['modules_to_not_convert', 'quant_method', 'version', 'zero_point'],
]);

/** What would make some modules different from others, or add to them. */
const GPTQ_ABSENT = ['adapter', 'dynamic', 'modules_in_block_to_quantize', 'rotation'] as const;

/** Those that are read, those of how weights were made, and those of other software's kernels. */
const GPTQ_KEYS = new Set([
  ...GPTQ_ABSENT,
  ...['act_group_aware', 'backend', 'batch_size', 'bits', 'block_name_to_quantize'],
  ...['cache_block_outputs', 'checkpoint_format', 'damp_auto_increment', 'damp_percent'],
  ...['dataset', 'desc_act', 'disable_exllama', 'exllama_config', 'format', 'group_size'],
  ...['hyb_act', 'is_marlin_format', 'lm_head', 'max_input_length', 'meta', 'method'],
  ...['model_file_base_name', 'model_name_or_path', 'model_seqlen'],
  ...['module_name_preceding_first_block', 'mse', 'pack_dtype', 'pad_token_id', 'quant_method'],
  ...['quantizer', 'static_groups', 'sym', 'tokenizer', 'true_sequential', 'use_cuda_fp16'],
  ...['use_exllama', 'v2', 'v2_alpha'],
]);

const PACKED_KEYS = new Set([
  ...['config_groups', 'format', 'global_compression_ratio', 'ignore', 'kv_cache_scheme'],
  ...['quant_method', 'quantization_status', 'sparsity_config', 'transform_config', 'version'],
]);
const PACKED_GROUP_KEYS = new Set([
  ...['format', 'input_activations', 'output_activations', 'targets', 'weights'],
]);
const PACKED_WEIGHTS_KEYS = new Set([
  ...['actorder', 'block_structure', 'dynamic', 'group_size', 'num_bits', 'observer'],
  ...['observer_kwargs', 'scale_dtype', 'strategy', 'symmetric', 'type', 'zp_dtype'],
]);
