import { type ExpertMatrix, type Matrix, MXFP4_BLOCK, type Slice } from '@bridgekeeper/device';
import { ModelError } from './errors.ts';
import { fp8Of, isQuantized } from './quantization.ts';
import { type WeightScales, weightScales } from './scales.ts';
import type { ExpertsFeedForward, ModelSpec } from './spec.ts';

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
  /** [heads] */
  readonly sinks: Slice | null;
  /** [hidden, heads * headDim] */
  readonly output: WeightMatrix;
  readonly outputBias: Slice | null;
  /** [hidden] */
  readonly postNorm: Slice;
  readonly feedForward: FeedForwardWeights;
}

/** What a layer does after attention, by the kind that `LayerKind.feedForward` names. */
export type FeedForwardWeights = DenseWeights | ExpertsWeights;

/** The experts of a layer, stacked one on the other, with the sizes of one. */
export interface ExpertsMatrix extends ExpertMatrix {
  readonly inputs: number;
  readonly outputs: number;
}

/** Who is asked, and the gated products of all that may be. */
export interface ExpertsWeights {
  readonly kind: 'experts';
  /** [experts, hidden] */
  readonly router: WeightMatrix;
  /** [experts] */
  readonly routerBias: Slice | null;
  /** [experts * 2 intermediate, hidden] */
  readonly expertGateUp: ExpertsMatrix;
  /** [experts, 2 intermediate] */
  readonly expertGateUpBias: Slice | null;
  /** [experts * hidden, intermediate] */
  readonly expertDown: ExpertsMatrix;
  /** [experts, hidden] */
  readonly expertDownBias: Slice | null;
}

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

type LayerRole =
  | Exclude<keyof LayerWeights, 'feedForward'>
  | Exclude<keyof DenseWeights, 'kind'>
  | Exclude<keyof ExpertsWeights, 'kind'>
  | 'expertGateUpScales'
  | 'expertDownScales';

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

/**
 * How a tensor is on the device: as the device's elements, as FP8, or as the bytes of MXFP4's
 * codes, two to each, or of its scales.
 */
export type TensorFormat = 'element' | 'fp8-e4m3' | 'mxfp4' | 'e8m0';

/** A tensor the engine wants on the device. */
export interface WeightTensor {
  readonly destination: Destination;
  /** For messages and reports: `layers.3.qkv`. */
  readonly label: string;
  readonly kind: 'matrix' | 'norm' | 'bias' | 'scales';
  readonly format: TensorFormat;
  readonly shape: readonly number[];
  /** Numbers, or bytes of MXFP4. */
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
  spec: ModelSpec,
  modules: readonly Module[],
  inputs: number,
): WeightScales | null {
  const quantization = fp8Of(spec.quantization);
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
  const apart = [
    { name: `${attention}.q_proj`, outputs: queryWidth },
    { name: `${attention}.k_proj`, outputs: kvWidth },
    { name: `${attention}.v_proj`, outputs: kvWidth },
  ];
  const fused = [{ name: `${attention}.qkv_proj`, outputs: queryWidth + 2 * kvWidth }];
  const qkv = spec.fusedModules ? fused : apart;
  const output = [{ name: `${attention}.o_proj`, outputs: hiddenSize }];
  const headNorms = [
    norm({ role: 'queryNorm', layer }, `${attention}.q_norm`, headDim),
    norm({ role: 'keyNorm', layer }, `${attention}.k_norm`, headDim),
  ];
  const sinks = { name: `${attention}.sinks`, shape: [spec.heads] };
  return [
    norm({ role: 'inputNorm', layer }, `${prefix}.input_layernorm`, hiddenSize),
    ...linear(spec, layer, QKV, qkv, hiddenSize, spec.qkvBias),
    ...(spec.qkNorm ? headNorms : []),
    ...(spec.attentionSinks ? [tensorOf({ role: 'sinks', layer }, 'bias', [sinks])] : []),
    ...linear(spec, layer, OUTPUT, output, queryWidth, spec.outputBias),
    norm({ role: 'postNorm', layer }, `${prefix}.post_attention_layernorm`, hiddenSize),
    ...feedForwardTensors(spec, layer, `${prefix}.mlp`),
  ];
}

function feedForwardTensors(spec: ModelSpec, layer: number, prefix: string): WeightTensor[] {
  const { feedForward } = spec.layerKinds[layer]!;
  if (feedForward.kind === 'experts') return expertTensors(spec, layer, prefix, feedForward);
  const { intermediateSize, bias } = feedForward;
  const fused = [{ name: `${prefix}.gate_up_proj`, outputs: 2 * intermediateSize }];
  const first = spec.fusedModules ? fused : gateUp(prefix, intermediateSize);
  const down = [{ name: `${prefix}.down_proj`, outputs: spec.hiddenSize }];
  return [
    ...linear(spec, layer, GATE_UP, first, spec.hiddenSize, bias),
    ...linear(spec, layer, DOWN, down, intermediateSize, bias),
  ];
}

function gateUp(prefix: string, outputs: number): Module[] {
  return [
    { name: `${prefix}.gate_proj`, outputs },
    { name: `${prefix}.up_proj`, outputs },
  ];
}

const ROUTER: LinearRoles = { weight: 'router', bias: 'routerBias' };
const EXPERT_GATE_UP: LinearRoles = { weight: 'expertGateUp', bias: 'expertGateUpBias' };
const EXPERT_DOWN: LinearRoles = { weight: 'expertDown', bias: 'expertDownBias' };

function expertTensors(
  spec: ModelSpec,
  layer: number,
  prefix: string,
  feedForward: ExpertsFeedForward,
): WeightTensor[] {
  const { hiddenSize } = spec;
  const { experts, intermediateSize: inner, routerBias, bias, stored } = feedForward;
  // Routers are never quantised, whatever is.
  const plain = { ...spec, quantization: null };
  const all = Array.from({ length: experts }, (_, expert) => `${prefix}.experts.${expert}`);
  switch (stored) {
    case 'modules': {
      const router = [{ name: `${prefix}.gate`, outputs: experts }];
      const first = all.flatMap((name) => gateUp(name, inner));
      const second = all.map((name) => ({ name: `${name}.down_proj`, outputs: hiddenSize }));
      return [
        ...linear(plain, layer, ROUTER, router, hiddenSize, routerBias),
        ...linear(spec, layer, EXPERT_GATE_UP, first, hiddenSize, bias),
        ...linear(spec, layer, EXPERT_DOWN, second, inner, bias),
      ];
    }
    case 'mxfp4 stack': {
      const router = [{ name: `${prefix}.router`, outputs: experts }];
      const name = `${prefix}.experts`;
      return [
        ...linear(plain, layer, ROUTER, router, hiddenSize, routerBias),
        ...mxfp4Stack(layer, EXPERT_GATE_UP, `${name}.gate_up_proj`, [
          experts,
          2 * inner,
          hiddenSize,
        ]),
        ...mxfp4Stack(layer, EXPERT_DOWN, `${name}.down_proj`, [experts, hiddenSize, inner]),
      ];
    }
  }
}

/** Codes, scales and biases of experts [experts, outputs, inputs], as gpt-oss names them. */
function mxfp4Stack(
  layer: number,
  roles: LinearRoles,
  name: string,
  [experts, outputs, inputs]: readonly [number, number, number],
): WeightTensor[] {
  const blocks = inputs / MXFP4_BLOCK;
  const stack = (
    role: LayerRole,
    kind: WeightTensor['kind'],
    format: TensorFormat,
    suffix: string,
    shape: readonly number[],
  ): WeightTensor => {
    const elements = product(shape);
    const sources = [{ name: `${name}_${suffix}`, shape, elementOffset: 0 }];
    const label = `layers.${layer}.${role}`;
    const rows = shape.length === 2 ? shape : [experts * outputs, elements / experts / outputs];
    const where = { destination: { role, layer }, label, kind };
    return { ...where, format, shape: rows, elements, sources, scales: null };
  };
  const scalesRole = roles.weight === 'expertDown' ? 'expertDownScales' : 'expertGateUpScales';
  const bytes = MXFP4_BLOCK / 2;
  return [
    stack(roles.weight, 'matrix', 'mxfp4', 'blocks', [experts, outputs, blocks, bytes]),
    stack(scalesRole, 'scales', 'e8m0', 'scales', [experts, outputs, blocks]),
    stack(roles.bias, 'bias', 'element', 'bias', [experts, outputs]),
  ];
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
