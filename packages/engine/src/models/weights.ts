import type { Slice } from '@bridgekeeper/device';
import type { ModelSpec } from './spec.ts';

/** One layer's weights on the device, in the device's element type. */
export interface LayerWeights {
  /** [hidden] */
  readonly inputNorm: Slice;
  /** [(heads + 2 kvHeads) * headDim, hidden]: q, k, v stacked. */
  readonly qkv: Slice;
  readonly qkvBias: Slice | null;
  /** [headDim] */
  readonly queryNorm: Slice | null;
  readonly keyNorm: Slice | null;
  /** [hidden, heads * headDim] */
  readonly output: Slice;
  readonly outputBias: Slice | null;
  /** [hidden] */
  readonly postNorm: Slice;
  /** [2 intermediate, hidden]: gate, then up. */
  readonly gateUp: Slice;
  readonly gateUpBias: Slice | null;
  /** [hidden, intermediate] */
  readonly down: Slice;
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
  readonly head: Slice;
}

export type LayerRole = keyof LayerWeights;

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
}

/** A tensor the engine wants on the device. */
export interface PlannedTensor {
  readonly destination: Destination;
  /** For messages and reports: `layers.3.qkv`. */
  readonly label: string;
  readonly kind: 'matrix' | 'norm' | 'bias';
  readonly shape: readonly number[];
  readonly elements: number;
  readonly sources: readonly WeightSource[];
}

interface Part {
  readonly name: string;
  readonly shape: readonly number[];
}

function product(shape: readonly number[]): number {
  return shape.reduce((total, size) => total * size, 1);
}

function planned(
  destination: Destination,
  kind: PlannedTensor['kind'],
  parts: readonly Part[],
): PlannedTensor {
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
  return { destination, label, kind, shape, elements, sources };
}

/** A linear map's matrix, and its bias when it has one, under the names Hugging Face gives them. */
function linear(
  layer: number,
  roles: { readonly weight: LayerRole; readonly bias: LayerRole },
  modules: readonly { readonly name: string; readonly outputs: number }[],
  inputs: number,
  biased: boolean,
): PlannedTensor[] {
  const weights = modules.map(({ name, outputs }) => ({
    name: `${name}.weight`,
    shape: [outputs, inputs],
  }));
  const biases = modules.map(({ name, outputs }) => ({ name: `${name}.bias`, shape: [outputs] }));
  const matrix = planned({ role: roles.weight, layer }, 'matrix', weights);
  return biased ? [matrix, planned({ role: roles.bias, layer }, 'bias', biases)] : [matrix];
}

function norm(destination: Destination, name: string, width: number): PlannedTensor {
  return planned(destination, 'norm', [{ name: `${name}.weight`, shape: [width] }]);
}

function planLayer(spec: ModelSpec, layer: number): PlannedTensor[] {
  const { hiddenSize, headDim, intermediateSize } = spec;
  const prefix = `model.layers.${layer}`;
  const attention = `${prefix}.self_attn`;
  const queryWidth = spec.heads * headDim;
  const kvWidth = spec.kvHeads * headDim;
  const qkv = [
    { name: `${attention}.q_proj`, outputs: queryWidth },
    { name: `${attention}.k_proj`, outputs: kvWidth },
    { name: `${attention}.v_proj`, outputs: kvWidth },
  ];
  const gateUp = [
    { name: `${prefix}.mlp.gate_proj`, outputs: intermediateSize },
    { name: `${prefix}.mlp.up_proj`, outputs: intermediateSize },
  ];
  const output = [{ name: `${attention}.o_proj`, outputs: hiddenSize }];
  const down = [{ name: `${prefix}.mlp.down_proj`, outputs: hiddenSize }];
  const headNorms = [
    norm({ role: 'queryNorm', layer }, `${attention}.q_norm`, headDim),
    norm({ role: 'keyNorm', layer }, `${attention}.k_norm`, headDim),
  ];
  return [
    norm({ role: 'inputNorm', layer }, `${prefix}.input_layernorm`, hiddenSize),
    ...linear(layer, { weight: 'qkv', bias: 'qkvBias' }, qkv, hiddenSize, spec.qkvBias),
    ...(spec.qkNorm ? headNorms : []),
    ...linear(layer, { weight: 'output', bias: 'outputBias' }, output, queryWidth, spec.outputBias),
    norm({ role: 'postNorm', layer }, `${prefix}.post_attention_layernorm`, hiddenSize),
    ...linear(layer, { weight: 'gateUp', bias: 'gateUpBias' }, gateUp, hiddenSize, spec.mlpBias),
    ...linear(layer, { weight: 'down', bias: 'downBias' }, down, intermediateSize, spec.mlpBias),
  ];
}

/**
 * Every tensor the engine needs of `spec` and the checkpoint tensors that fill it, in the order of
 * the forward pass.
 */
export function weightPlan(spec: ModelSpec): PlannedTensor[] {
  const table = [spec.vocabularySize, spec.hiddenSize];
  const embed = [{ name: 'model.embed_tokens.weight', shape: table }];
  const head = [{ name: 'lm_head.weight', shape: table }];
  return [
    planned({ role: 'embed' }, 'matrix', embed),
    ...Array.from({ length: spec.layers }, (_, layer) => planLayer(spec, layer)).flat(),
    norm({ role: 'finalNorm' }, 'model.norm', spec.hiddenSize),
    ...(spec.tiedHead ? [] : [planned({ role: 'head' }, 'matrix', head)]),
  ];
}

/** Parameters of the model: a tied head counts once. */
export function parameterCount(spec: ModelSpec): number {
  return weightPlan(spec).reduce((total, tensor) => total + tensor.elements, 0);
}
