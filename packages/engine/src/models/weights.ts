import type { Matrix, Slice, StorageFormat } from '@bridgekeeper/device';
import { ModelError } from './errors.ts';
import { isQuantized } from './quantization.ts';
import { type WeightScales, weightScales } from './scales.ts';
import type { ModelSpec } from './spec.ts';

/** A matrix on the device with its sizes: what a linear operation takes. */
export interface WeightMatrix extends Matrix {
  readonly inputs: number;
  readonly outputs: number;
}

/** One layer's weights on the device: matrices as stored, the rest as the device's elements. */
export interface LayerWeights {
  /** [hidden] */
  readonly inputNorm: Slice;
  /** [(heads + 2 kvHeads) * headDim, hidden]: q, k, v stacked. */
  readonly qkv: WeightMatrix;
  readonly qkvBias: Slice | null;
  /** [headDim] */
  readonly queryNorm: Slice | null;
  readonly keyNorm: Slice | null;
  /** [hidden, heads * headDim] */
  readonly output: WeightMatrix;
  readonly outputBias: Slice | null;
  /** [hidden] */
  readonly postNorm: Slice;
  readonly feedForward: FeedForwardWeights;
}

/** What a layer does after attention, by the kind that `ModelSpec.feedForward` names. */
export type FeedForwardWeights = DenseWeights;

/** A gated product and one back. */
export interface DenseWeights {
  readonly kind: 'dense';
  /** [2 intermediate, hidden]: gate, then up. */
  readonly gateUp: WeightMatrix;
  readonly gateUpBias: Slice | null;
  /** [hidden, intermediate] */
  readonly down: WeightMatrix;
  readonly downBias: Slice | null;
}

/** A model's weights on the device. */
export interface Weights {
  /** [vocabulary, hidden] */
  readonly embed: Slice;
  readonly layers: readonly LayerWeights[];
  /** [hidden] */
  readonly finalNorm: Slice;
  /** [vocabulary, hidden]: `embed` itself when the head is tied. */
  readonly head: WeightMatrix;
}

type LayerRole = Exclude<keyof LayerWeights, 'feedForward'> | Exclude<keyof DenseWeights, 'kind'>;

/** Where a tensor goes in `Weights`. */
export type Destination =
  | { readonly role: 'embed' | 'finalNorm' | 'head' }
  | { readonly role: LayerRole; readonly layer: number };

/** A tensor of the checkpoint and where in the destination it starts. */
export interface WeightSource {
  readonly name: string;
  readonly shape: readonly number[];
  /** Elements into the destination, row-major: sources are stacked along the first dimension. */
  readonly elementOffset: number;
  /** What of it is wanted; absent: all. */
  readonly selection?: Selection;
}

/** Rows and columns of a stored tensor, each from and to; what has one dimension has one column. */
export interface Selection {
  readonly rows: readonly [number, number];
  readonly columns: readonly [number, number];
}

/** A tensor the engine wants on the device. */
export interface WeightTensor {
  readonly destination: Destination;
  /** For messages and reports: `layers.3.qkv`. */
  readonly label: string;
  readonly kind: 'matrix' | 'norm' | 'bias';
  readonly format: StorageFormat;
  readonly shape: readonly number[];
  readonly elements: number;
  readonly sources: readonly WeightSource[];
  /** What the values of an FP8 matrix are multiplied by; null for elements. */
  readonly scales: WeightScales | null;
}

interface Part {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A linear layer under the name Hugging Face gives it. */
interface Module {
  readonly name: string;
  readonly outputs: number;
}

function product(shape: readonly number[]): number {
  return shape.reduce((total, size) => total * size, 1);
}

function tensorOf(
  destination: Destination,
  kind: WeightTensor['kind'],
  parts: readonly Part[],
  scales: WeightScales | null = null,
): WeightTensor {
  let rows = 0;
  let elements = 0;
  const sources: WeightSource[] = [];
  for (const part of parts) {
    sources.push({ ...part, elementOffset: elements });
    rows += part.shape[0]!;
    elements += product(part.shape);
  }
  const shape = [rows, ...parts[0]!.shape.slice(1)];
  const label =
    'layer' in destination ? `layers.${destination.layer}.${destination.role}` : destination.role;
  const format = scales === null ? 'element' : 'fp8-e4m3';
  return { destination, label, kind, format, shape, elements, sources, scales };
}

/** The scales of stacked modules; null when none is quantised. */
function scalesOf(
  { quantization }: ModelSpec,
  modules: readonly Module[],
  inputs: number,
): WeightScales | null {
  const quantized = modules.filter(({ name }) => isQuantized(quantization, name));
  if (quantization === null || quantized.length === 0) return null;
  if (quantized.length < modules.length) {
    const other = modules.find((module) => !quantized.includes(module))!;
    throw new ModelError(
      'unsupported',
      `config.json: "quantization_config" has ${quantized[0]!.name} in FP8 but not ` +
        `${other.name}, which are one product here; supported: both or neither`,
    );
  }
  return weightScales(quantization.grid, modules, inputs);
}

/** Where a linear map's matrix and bias go. */
interface LinearRoles {
  readonly weight: LayerRole;
  readonly bias: LayerRole;
}

const QKV: LinearRoles = { weight: 'qkv', bias: 'qkvBias' };
const OUTPUT: LinearRoles = { weight: 'output', bias: 'outputBias' };
const GATE_UP: LinearRoles = { weight: 'gateUp', bias: 'gateUpBias' };
const DOWN: LinearRoles = { weight: 'down', bias: 'downBias' };

/** A linear map's matrix, and its bias when it has one. */
function linear(
  spec: ModelSpec,
  layer: number,
  roles: LinearRoles,
  modules: readonly Module[],
  inputs: number,
  biased: boolean,
): WeightTensor[] {
  const weights = modules.map(({ name, outputs }) => ({
    name: `${name}.weight`,
    shape: [outputs, inputs],
  }));
  const biases = modules.map(({ name, outputs }) => ({ name: `${name}.bias`, shape: [outputs] }));
  const scales = scalesOf(spec, modules, inputs);
  const matrix = tensorOf({ role: roles.weight, layer }, 'matrix', weights, scales);
  return biased ? [matrix, tensorOf({ role: roles.bias, layer }, 'bias', biases)] : [matrix];
}

function norm(destination: Destination, name: string, width: number): WeightTensor {
  return tensorOf(destination, 'norm', [{ name: `${name}.weight`, shape: [width] }]);
}

function layerTensors(spec: ModelSpec, layer: number): WeightTensor[] {
  const { hiddenSize, headDim } = spec;
  const prefix = `model.layers.${layer}`;
  const attention = `${prefix}.self_attn`;
  const queryWidth = spec.heads * headDim;
  const kvWidth = spec.kvHeads * headDim;
  const qkv = [
    { name: `${attention}.q_proj`, outputs: queryWidth },
    { name: `${attention}.k_proj`, outputs: kvWidth },
    { name: `${attention}.v_proj`, outputs: kvWidth },
  ];
  const output = [{ name: `${attention}.o_proj`, outputs: hiddenSize }];
  const headNorms = [
    norm({ role: 'queryNorm', layer }, `${attention}.q_norm`, headDim),
    norm({ role: 'keyNorm', layer }, `${attention}.k_norm`, headDim),
  ];
  return [
    norm({ role: 'inputNorm', layer }, `${prefix}.input_layernorm`, hiddenSize),
    ...linear(spec, layer, QKV, qkv, hiddenSize, spec.qkvBias),
    ...(spec.qkNorm ? headNorms : []),
    ...linear(spec, layer, OUTPUT, output, queryWidth, spec.outputBias),
    norm({ role: 'postNorm', layer }, `${prefix}.post_attention_layernorm`, hiddenSize),
    ...feedForwardTensors(spec, layer, `${prefix}.mlp`),
  ];
}

function feedForwardTensors(spec: ModelSpec, layer: number, prefix: string): WeightTensor[] {
  const { hiddenSize, feedForward } = spec;
  switch (feedForward.kind) {
    case 'dense': {
      const { intermediateSize, bias } = feedForward;
      const gateUp = [
        { name: `${prefix}.gate_proj`, outputs: intermediateSize },
        { name: `${prefix}.up_proj`, outputs: intermediateSize },
      ];
      const down = [{ name: `${prefix}.down_proj`, outputs: hiddenSize }];
      return [
        ...linear(spec, layer, GATE_UP, gateUp, hiddenSize, bias),
        ...linear(spec, layer, DOWN, down, intermediateSize, bias),
      ];
    }
  }
}

/**
 * Every tensor the engine needs of `spec` and the checkpoint tensors that fill it, in the order of
 * the forward pass. The embedding table and the head are never quantised. Throws ModelError
 * `unsupported` when only a part of a stack is.
 */
export function weightTensors(spec: ModelSpec): WeightTensor[] {
  const table = [spec.vocabularySize, spec.hiddenSize];
  const embed = [{ name: 'model.embed_tokens.weight', shape: table }];
  const head = [{ name: 'lm_head.weight', shape: table }];
  return [
    tensorOf({ role: 'embed' }, 'matrix', embed),
    ...Array.from({ length: spec.layers }, (_, layer) => layerTensors(spec, layer)).flat(),
    norm({ role: 'finalNorm' }, 'model.norm', spec.hiddenSize),
    ...(spec.tiedHead ? [] : [tensorOf({ role: 'head' }, 'matrix', head)]),
  ];
}

/** Every matrix of a layer that a token is multiplied by. */
export function layerMatrices({ qkv, output, feedForward }: LayerWeights): WeightMatrix[] {
  return [qkv, output, feedForward.gateUp, feedForward.down];
}
