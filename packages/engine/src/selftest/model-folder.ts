import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hash32 } from '@bridgekeeper/device';
import { e4m3FromF32 } from '@bridgekeeper/device/testing';
import { describeModel } from '../models/describe.ts';
import type { Int4Module, StoredWords } from '../models/int4-modules.ts';
import type { ModelSpec, StoredType } from '../models/spec.ts';
import { type WeightTensor, weightTensors } from '../models/weights.ts';
import { type TensorData, writeSafetensors } from './safetensors-file.ts';
import { BYTE_LEVEL_SIZE, byteLevelTokenizer, SPECIAL_TOKENS } from './tokenizer-json.ts';

/** A small model of any supported architecture. Everything has a default. */
export interface ModelFolderOptions {
  readonly architecture?: string;
  readonly storedType?: StoredType;
  /** More than one also writes an index. */
  readonly shards?: number;
  /** Where the data of a file starts modulo 8. */
  readonly startRemainder?: number;
  readonly tiedHead?: boolean;
  /** Saved without its head, as models that embed are: no tensor's name begins with `model.`. */
  readonly isBare?: boolean;
  readonly seed?: number;
  /** Keys of config.json to replace or add; undefined leaves a key out. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** `quantization_config`: what it says is FP8 or in 4 bits is written so, with scales. */
  readonly quantization?: Readonly<Record<string, unknown>>;
  /** How scales are stored, by default as f32, or as the tools for 4 bits do. */
  readonly scaleType?: StoredType;
  /** `none` leaves tokenizer.json out. */
  readonly tokenizer?: 'byte-level' | 'none';
}

const DTYPES = { bf16: 'BF16', f16: 'F16', f32: 'F32' } as const;
const DTYPE_NAMES = { bf16: 'bfloat16', f16: 'float16', f32: 'float32' } as const;

const CHAT_TEMPLATE = [
  '{% for message in messages %}',
  "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}",
  '{% endfor %}',
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
].join('');

/** config.json of the model that `writeModelFolder` writes for the same options. */
export function smallConfig(options: ModelFolderOptions = {}): Record<string, unknown> {
  const config = {
    architectures: [options.architecture ?? 'LlamaForCausalLM'],
    hidden_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    intermediate_size: 96,
    vocab_size: Math.ceil(BYTE_LEVEL_SIZE / 64) * 64,
    max_position_embeddings: 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    hidden_act: 'silu',
    tie_word_embeddings: options.tiedHead ?? false,
    torch_dtype: DTYPE_NAMES[options.storedType ?? 'bf16'],
    sliding_window: null,
    bos_token_id: 0,
    eos_token_id: 0,
    quantization_config: options.quantization,
    ...options.config,
  };
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  if (!isSeeing(options)) return Object.fromEntries(given);
  const ofWhole = (key: string) => ['architectures', 'torch_dtype', 'eos_token_id'].includes(key);
  return {
    ...Object.fromEntries(given.filter(([key]) => ofWhole(key))),
    text_config: Object.fromEntries(given.filter(([key]) => !ofWhole(key))),
    vision_config: { model_type: 'pixtral' },
    image_token_index: 10,
  };
}

/** Whether the text model is a part of the whole. */
const isSeeing = ({ architecture }: ModelFolderOptions) =>
  architecture?.endsWith('ForConditionalGeneration') ?? false;

/** The text model within the whole, beside something that sees. */
function besideTower(tensors: readonly TensorData[]): TensorData[] {
  const bytes = new Uint8Array(8);
  const tower = { name: 'vision_tower.patch_conv.weight', dtype: 'F32', shape: [2], bytes };
  return [...tensors.map((each) => ({ ...each, name: `language_model.${each.name}` })), tower];
}

/** A value that all stored types hold exactly, so that a model is the same in each of them. */
function randomValue(
  { kind, destination }: WeightTensor,
  { normOffset, attentionScale }: ModelSpec,
  seed: number,
  index: number,
): number {
  const step = (hash32(seed, 1, index) >>> 0) % 511;
  // The norm of a delta net's heads is centred at one whatever the others are.
  const centre = destination.role === 'headNorm' ? 1 : 1 - normOffset;
  // Where nothing else scales scores, trained norms of queries do, or one position has all weight.
  const isScaling = attentionScale === 1 && destination.role === 'queryNorm';
  if (kind === 'norm') return (centre + ((step % 65) - 32) / 128) / (isScaling ? 16 : 1);
  // What is not a matrix, and small, would do nothing if it were as small as matrices' values.
  const isLarge = kind === 'weight' || LARGE_ROLES.includes(destination.role);
  return (step - 255) / (isLarge ? 256 : 2048);
}

const LARGE_ROLES: readonly string[] = ['choiceBias', 'decayLog', 'stepBias'];

/** The bits of `value`, which must be 0 or a normal float16 without loss. */
function halfBits(value: number): number {
  if (value === 0) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const fraction = Math.abs(value) / 2 ** exponent - 1;
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | (fraction * 1024);
}

function encodeValues(values: Float32Array, type: StoredType): Uint8Array {
  if (type === 'f32') return new Uint8Array(values.buffer);
  const words = new Uint32Array(values.buffer);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    bits[i] = type === 'bf16' ? words[i]! >>> 16 : halfBits(values[i]!);
  }
  return new Uint8Array(bits.buffer);
}

function elementsOf(shape: readonly number[]): number {
  return shape.reduce((total, size) => total * size, 1);
}

/** A module in 4 bits: any codes under any zero points, and scales of about 1/100. */
function int4TensorsOf(
  module: Int4Module,
  { scaleType }: ModelFolderOptions,
  seed: number,
): TensorData[] {
  const { codes, scales, zeros, groupsOfInputs, shape, inputs, groups, order } = module;
  const words = ({ name, shape }: StoredWords, draw: number): TensorData => {
    const drawn = Int32Array.from({ length: elementsOf(shape) }, (_, i) => hash32(seed, draw, i));
    return { name, dtype: 'I32', shape, bytes: new Uint8Array(drawn.buffer) };
  };
  const type = scaleType ?? (order === 'rows' ? 'bf16' : 'f16');
  // Of eight bits, which both types hold.
  const drawn = Float32Array.from(
    { length: elementsOf(scales.shape) },
    (_, i) => (128 + (hash32(seed, 3, i) & 127)) / 2 ** 14,
  );
  const scaleTensor = { ...scales, dtype: DTYPES[type], bytes: encodeValues(drawn, type) };
  const tensors = [words(codes, 2), scaleTensor, ...(zeros === null ? [] : [words(zeros, 4)])];
  if (shape !== null) {
    const bytes = new Uint8Array(BigInt64Array.of(BigInt(module.outputs), BigInt(inputs)).buffer);
    return [...tensors, { name: shape, dtype: 'I64', shape: [2], bytes }];
  }
  if (groupsOfInputs === null) return tensors;
  const group = Int32Array.from({ length: inputs }, (_, i) => Math.floor((i * groups) / inputs));
  const bytes = new Uint8Array(group.buffer);
  return [...tensors, { name: groupsOfInputs, dtype: 'I32', shape: [inputs], bytes }];
}

/** The checkpoint's tensors that fill one of the engine's. */
function tensorsOf(
  planned: WeightTensor,
  options: ModelFolderOptions,
  spec: ModelSpec,
  seed: number,
): TensorData[] {
  const { format, scales } = planned;
  // Of a tensor that is taken apart, each part names the whole.
  const sources = planned.sources.filter(
    ({ name }, i) => planned.sources.findIndex((other) => other.name === name) === i,
  );
  const type = options.storedType ?? 'bf16';
  const scaleType = options.scaleType ?? 'f32';
  const random = (shape: readonly number[], draw: number) =>
    new Float32Array(elementsOf(shape)).map((_, i) =>
      randomValue(planned, spec, seed * 1000 + draw, i),
    );
  if (format === 'mxfp4' || format === 'e8m0') {
    // Any code under a scale of 2^-6 or 2^-5: values are then as large as those of other matrices.
    const byte = (i: number) => hash32(seed, 2, i) & 0xff;
    const { name, shape } = sources[0]!;
    const bytes = Uint8Array.from({ length: elementsOf(shape) }, (_, i) =>
      format === 'mxfp4' ? byte(i) : 121 + (byte(i) & 1),
    );
    return [{ name, dtype: 'U8', shape, bytes }];
  }
  if (planned.int4 !== undefined) {
    return planned.int4.flatMap((module, part) => int4TensorsOf(module, options, seed + part * 7));
  }
  const values = sources.map(({ name, shape }, part) => {
    const drawn = random(shape, part);
    if (format === 'element' || format === 'f32') {
      return { name, dtype: DTYPES[type], shape, bytes: encodeValues(drawn, type) };
    }
    // All codes from -448 to 448.
    return { name, dtype: 'F8_E4M3', shape, bytes: e4m3FromF32(drawn.map((x) => x * 3584)) };
  });
  const suffix = options.quantization?.quant_method === 'fp8' ? 'weight_scale_inv' : 'weight_scale';
  const scaleSources = (scales?.sources ?? []).filter(
    ({ module }, i, all) => all.findIndex((other) => other.module === module) === i,
  );
  const scaleTensors = scaleSources.map(({ module, shapes }, part) => {
    const shape = shapes[0]!;
    // Near 1 / 4096: values are then as small as those of other matrices.
    const drawn = random(shape, 100 + part).map((x) => (1 + x * 4) / 4096);
    const bytes = encodeValues(drawn, scaleType);
    return { name: `${module}.${suffix}`, dtype: DTYPES[scaleType], shape, bytes };
  });
  return [...values, ...scaleTensors];
}

async function writeShards(folder: string, tensors: readonly TensorData[], shards: number) {
  const weightMap: Record<string, string> = {};
  const perShard = Math.ceil(tensors.length / shards);
  const number = (value: number) => String(value).padStart(5, '0');
  for (let shard = 0; shard < shards; shard++) {
    const name = `model-${number(shard + 1)}-of-${number(shards)}.safetensors`;
    const part = tensors.slice(shard * perShard, (shard + 1) * perShard);
    await writeSafetensors(join(folder, name), part);
    for (const tensor of part) weightMap[tensor.name] = name;
  }
  const index = JSON.stringify({ metadata: {}, weight_map: weightMap });
  await writeFile(join(folder, 'model.safetensors.index.json'), index);
}

function withoutHead(tensors: readonly TensorData[]): TensorData[] {
  return tensors
    .filter(({ name }) => name.startsWith('model.'))
    .map((tensor) => ({ ...tensor, name: tensor.name.slice('model.'.length) }));
}

/**
 * Writes a small random model in Hugging Face's layout into `folder`, which is made: config.json,
 * weights in name order as transformers saves them, and a byte-level tokenizer with a ChatML
 * template. The same options always write the same values, whatever the stored type and the number
 * of shards.
 */
export async function writeModelFolder(folder: string, options: ModelFolderOptions = {}) {
  await mkdir(folder, { recursive: true });
  const config = smallConfig(options);
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  const seed = (options.seed ?? 1) * 1000;
  const spec = describeModel(config);
  const seen = new Set<string>();
  const tensors = weightTensors(spec)
    .flatMap((planned, index) => tensorsOf(planned, options, spec, seed + index))
    // A module of which several tensors have a part was drawn for the first.
    .filter(({ name }) => !seen.has(name) && seen.add(name))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const shards = options.shards ?? 1;
  const whole = isSeeing(options) ? besideTower(tensors) : tensors;
  const saved = options.isBare ? withoutHead(whole) : whole;
  if (shards === 1) {
    await writeSafetensors(join(folder, 'model.safetensors'), saved, options.startRemainder);
  } else await writeShards(folder, saved, shards);
  if (options.tokenizer === 'none') return;
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteLevelTokenizer()));
  const tokenizerConfig = {
    eos_token: SPECIAL_TOKENS[0],
    bos_token: SPECIAL_TOKENS[0],
    chat_template: CHAT_TEMPLATE,
  };
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(tokenizerConfig));
}
