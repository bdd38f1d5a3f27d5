import {
  type ExpertMatrix,
  LINE_KV_PARTS,
  type Matrix,
  MXFP4_BLOCK,
  type Slice,
} from '@bridgekeeper/device';
import { ModelError } from './errors.ts';
import { type Int4Module, int4Modules } from './int4-modules.ts';
import { fp8Of, int4Of, isQuantized, linearsOf } from './quantization.ts';
import { INT4_NAMES } from './quantization-int4.ts';
import { type WeightScales, weightScales } from './scales.ts';
import type {
  DeltaNet,
  DenseFeedForward,
  ExpertsFeedForward,
  Mixer,
  ModelSpec,
  SharedExpert,
} from './spec.ts';

/** A matrix on the device with its sizes: what a linear operation takes. */
export interface WeightMatrix extends Matrix {
  readonly inputs: number;
  readonly outputs: number;
}

/** One layer's weights on the device: matrices as stored, the rest as the device's elements. */
export interface LayerWeights {
  /** [hidden]; null where norms do not stand before branches. */
  readonly inputNorm: Slice | null;
  /**
   * [(heads + n kvHeads) * headDim, hidden]: q, k, v stacked, or what of k and v there is. Of a
   * delta net q, k, v and z, [2
   * keyHeads * keyDim + 2 valueHeads * valueDim, hidden]. Of latent attention the queries alone,
   * [heads * (keyDim + rotaryDim), queryRank or hidden].
   */
  readonly qkv: WeightMatrix;
  readonly qkvBias: Slice | null;
  /** [headDim], or as wide as all heads together. */
  readonly queryNorm: Slice | null;
  readonly keyNorm: Slice | null;
  /** [heads] */
  readonly sinks: Slice | null;
  /** [heads * headDim, hidden] */
  readonly attentionGate: WeightMatrix | null;
  readonly attentionGateBias: Slice | null;
  /** Of a layer with a delta net: what it has beside `qkv` and `output`. */
  readonly deltaNet: DeltaNetWeights | null;
  /** Of one with latent attention, likewise. */
  readonly latent: LatentWeights | null;
  /** [hidden, heads * headDim], or what a delta net's heads or latent values are together. */
  readonly output: WeightMatrix;
  readonly outputBias: Slice | null;
  /** [hidden], behind attention; null where there is none. */
  readonly attendedNorm: Slice | null;
  /** [hidden], before the feed-forward. */
  readonly postNorm: Slice | null;
  /** [hidden], behind the feed-forward. */
  readonly fedNorm: Slice | null;
  /** [1] */
  readonly layerScale: Slice | null;
  /** [width, hidden], [hidden, width] and [hidden]: see PerLayerInputs. */
  readonly perLayerGate: WeightMatrix | null;
  readonly perLayerBack: WeightMatrix | null;
  readonly perLayerNorm: Slice | null;
  readonly feedForward: FeedForwardWeights;
}

/** A gated delta net, beside its products. */
export interface DeltaNetWeights {
  /** [2 valueHeads, hidden]: b, then a. */
  readonly gates: WeightMatrix;
  /** [2 keyHeads * keyDim + valueHeads * valueDim, 4] */
  readonly conv: Slice;
  /** f32 [valueHeads] each. */
  readonly decayLog: Slice;
  readonly stepBias: Slice;
  /** [valueDim] */
  readonly headNorm: Slice;
}

/** Latent attention, beside its products. */
export interface LatentWeights {
  /** [queryRank, hidden] and [queryRank]; null where queries come from the layer's input. */
  readonly queryDown: WeightMatrix | null;
  readonly queryDownNorm: Slice | null;
  /** [kvRank + rotaryDim, hidden] */
  readonly latentDown: WeightMatrix;
  /** [kvRank] */
  readonly latentNorm: Slice;
  /** [heads * (keyDim + valueDim), kvRank]: of each head what makes its key, then its value. */
  readonly latentUp: WeightMatrix;
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
  /** f32 [experts] */
  readonly choiceBias: Slice | null;
  /** Of a dense branch beside them; see DenseWeights. */
  readonly gateUp: WeightMatrix | null;
  readonly down: WeightMatrix | null;
  /** [hidden]: behind that branch, and before the router, and before and behind the experts. */
  readonly besideNorm: Slice | null;
  readonly routerNorm: Slice | null;
  readonly expertsNorm: Slice | null;
  readonly routedNorm: Slice | null;
  /** f32 [experts] */
  readonly expertScales: Slice | null;
  /** The expert of all tokens, and [1, hidden], by which a line says how much that counts. */
  readonly sharedGateUp: WeightMatrix | null;
  readonly sharedDown: WeightMatrix | null;
  readonly sharedGate: Slice | null;
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

/** What PerLayerInputs of all layers are made from. */
export interface PerLayerWeights {
  /** [vocabulary of its own, layers * width] */
  readonly table: Slice;
  /** [layers * width, hidden] */
  readonly projection: WeightMatrix;
  /** [width] */
  readonly norm: Slice;
}

/** A model's weights on the device. */
export interface Weights {
  /** [vocabulary, hidden] */
  readonly embed: Slice;
  readonly perLayer: PerLayerWeights | null;
  readonly layers: readonly LayerWeights[];
  /** [hidden] */
  readonly finalNorm: Slice;
  /** [vocabulary, hidden]: `embed` itself when the head is tied. */
  readonly head: WeightMatrix;
}

type LayerRole =
  | Exclude<keyof LayerWeights, 'feedForward' | 'deltaNet' | 'latent'>
  | keyof DeltaNetWeights
  | keyof LatentWeights
  | Exclude<keyof DenseWeights, 'kind'>
  | Exclude<keyof ExpertsWeights, 'kind'>
  | 'expertGateUpScales'
  | 'expertDownScales';

type ModelRole =
  | 'embed'
  | 'finalNorm'
  | 'head'
  | 'perLayerTable'
  | 'perLayerProjection'
  | 'perLayerTableNorm';

/** Where a tensor goes in `Weights`. */
export type Destination =
  | { readonly role: ModelRole }
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
 * How a tensor is on the device: as the device's elements, in f32 whatever these are, as FP8, as
 * integers of 4 bits, or as the bytes of MXFP4's codes, two to each, or of its scales.
 */
export type TensorFormat = 'element' | 'f32' | 'fp8-e4m3' | 'int4' | 'mxfp4' | 'e8m0';

/** A tensor the engine wants on the device. */
export interface WeightTensor {
  readonly destination: Destination;
  /** For messages and reports: `layers.3.qkv`. */
  readonly label: string;
  readonly kind: 'matrix' | 'weight' | 'norm' | 'bias' | 'scales';
  readonly format: TensorFormat;
  readonly shape: readonly number[];
  /** Numbers, or bytes of MXFP4. */
  readonly elements: number;
  readonly sources: readonly WeightSource[];
  /** What the values of an FP8 or int4 matrix are multiplied by; null for elements. */
  readonly scales: WeightScales | null;
  /** The modules of an int4 matrix, as its sources are; of others there are none. */
  readonly int4?: readonly Int4Module[];
}

interface Part {
  readonly name: string;
  readonly shape: readonly number[];
  /** Of its rows; absent: all. */
  readonly rows?: readonly [number, number];
}

/** A linear layer under the name Hugging Face gives it, or some of its outputs. */
interface Module {
  readonly name: string;
  readonly outputs: number;
  /** Where they begin among how many; absent: they are all. */
  readonly part?: { readonly from: number; readonly of: number };
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
  for (const { name, shape, rows: some } of parts) {
    const own: readonly [number, number] = some ?? [0, shape[0]!];
    const columns = product(shape.slice(1));
    const isWhole = own[0] === 0 && own[1] === shape[0];
    const selection = { rows: own, columns: [0, columns] } as const;
    const source = { name, shape, elementOffset: elements };
    sources.push(isWhole ? source : { ...source, selection });
    rows += own[1] - own[0];
    elements += (own[1] - own[0]) * columns;
  }
  const shape = [rows, ...parts[0]!.shape.slice(1)];
  const label =
    'layer' in destination ? `layers.${destination.layer}.${destination.role}` : destination.role;
  const format = scales === null ? 'element' : 'fp8-e4m3';
  return { destination, label, kind, format, shape, elements, sources, scales };
}

/** Whether stacked modules are quantised: all of them, or none. */
function areQuantized({ quantization }: ModelSpec, modules: readonly Module[]): boolean {
  const quantized = modules.filter(({ name }) => isQuantized(quantization, name));
  if (quantized.length === 0 || quantized.length === modules.length) {
    return quantized.length > 0;
  }
  const other = modules.find((module) => !quantized.includes(module))!;
  throw new ModelError(
    'unsupported',
    `config.json: "quantization_config" has ${quantized[0]!.name} in ${formatWord(quantization)} ` +
      `but not ${other.name}, which are one product here; supported: both or neither`,
  );
}

/** For messages: how linear layers are quantised. */
function formatWord(quantization: ModelSpec['quantization']): string {
  return linearsOf(quantization)?.method === 'int4' ? 'int4' : 'FP8';
}

/** The matrix of stacked modules as integers of 4 bits: what is stored, one on the other. */
function int4Tensor(
  plain: WeightTensor,
  modules: readonly Int4Module[],
  group: number,
): WeightTensor {
  const [outputs, inputs] = plain.shape as [number, number];
  const blocks = { blockOutputs: 1, blockInputs: group, rows: outputs, columns: inputs / group };
  return {
    ...plain,
    format: 'int4',
    sources: modules.map(({ codes, firstOutput }) => ({
      ...codes,
      elementOffset: firstOutput * inputs,
    })),
    scales: { ...blocks, sources: [] },
    int4: modules,
  };
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
  const partOf = (suffix: string, width: readonly number[]) => (module: Module) => {
    const { name, outputs, part = { from: 0, of: outputs } } = module;
    const rows = [part.from, part.from + outputs] as const;
    return { name: `${name}.${suffix}`, shape: [part.of, ...width], rows };
  };
  const weights = modules.map(partOf('weight', [inputs]));
  const biases = modules.map(partOf('bias', []));
  const { quantization } = spec;
  const [fp8, int4] = areQuantized(spec, modules)
    ? [fp8Of(quantization), int4Of(quantization)]
    : [null, null];
  const scales = fp8 && weightScales(fp8.grid, modules, inputs);
  const plain = tensorOf({ role: roles.weight, layer }, 'matrix', weights, scales);
  const matrix =
    int4 === null
      ? plain
      : int4Tensor(plain, int4Modules(int4, modules, inputs), int4.group ?? inputs);
  return biased ? [matrix, tensorOf({ role: roles.bias, layer }, 'bias', biases)] : [matrix];
}

function norm(destination: Destination, name: string, width: number): WeightTensor {
  return tensorOf(destination, 'norm', [{ name: `${name}.weight`, shape: [width] }]);
}

/** What stands before and behind a layer's two branches, by what checkpoints call it. */
function normNames({ norms }: ModelSpec) {
  const afterAttention = 'post_attention_layernorm';
  const afterFeedForward = 'post_feedforward_layernorm';
  return {
    inputNorm: norms.before ? 'input_layernorm' : null,
    attendedNorm: norms.after ? afterAttention : null,
    // Where only one norm stands between the branches, it is called after the first.
    postNorm: !norms.before ? null : norms.after ? 'pre_feedforward_layernorm' : afterAttention,
    fedNorm: norms.after ? afterFeedForward : null,
  } as const;
}

/** Of a branch of experts beside a dense one. */
function besideTensors(
  spec: ModelSpec,
  layer: number,
  prefix: string,
  kind: ExpertsFeedForward,
  beside: DenseFeedForward,
): WeightTensor[] {
  const { hiddenSize } = spec;
  const { experts, intermediateSize: inner, bias, stored } = kind;
  const normOf = (role: LayerRole, name: string) =>
    norm({ role, layer }, `${prefix}.${name}`, hiddenSize);
  const plain = { ...spec, quantization: null };
  const router = [{ name: `${prefix}.router.proj`, outputs: experts }];
  const scale = { name: `${prefix}.router.scale`, shape: [hiddenSize] };
  const scales = { name: `${prefix}.router.per_expert_scale`, shape: [experts] };
  return [
    ...denseTensors(spec, layer, `${prefix}.mlp`, beside),
    normOf('besideNorm', 'post_feedforward_layernorm_1'),
    tensorOf({ role: 'routerNorm', layer }, 'norm', [scale]),
    ...linear(plain, layer, ROUTER, router, hiddenSize, false),
    inF32(tensorOf({ role: 'expertScales', layer }, 'norm', [scales])),
    normOf('expertsNorm', 'pre_feedforward_layernorm_2'),
    ...routedTensors(spec, layer, `${prefix}.experts`, { experts, inner, bias, stored }),
    normOf('routedNorm', 'post_feedforward_layernorm_2'),
  ];
}

function layerTensors(spec: ModelSpec, layer: number): WeightTensor[] {
  const prefix = `model.layers.${layer}`;
  const names = normNames(spec);
  const normOf = (role: keyof typeof names) =>
    names[role] === null
      ? []
      : [norm({ role, layer }, `${prefix}.${names[role]}`, spec.hiddenSize)];
  const { mixer } = spec.layerKinds[layer]!;
  return [
    ...normOf('inputNorm'),
    ...MIXER_TENSORS[mixer](spec, layer, prefix),
    ...normOf('attendedNorm'),
    ...normOf('postNorm'),
    ...feedForwardTensors(spec, layer, prefix),
    ...normOf('fedNorm'),
    ...perLayerTensors(spec, layer, prefix),
    ...(spec.layerScale ? [layerScale(layer, `${prefix}.layer_scalar`)] : []),
  ];
}

const MIXER_TENSORS: Readonly<
  Record<Mixer, (spec: ModelSpec, layer: number, prefix: string) => WeightTensor[]>
> = {
  attention: (spec, layer, prefix) => attentionTensors(spec, layer, `${prefix}.self_attn`),
  'latent-attention': (spec, layer, prefix) => latentTensors(spec, layer, `${prefix}.self_attn`),
  'delta-net': (spec, layer, prefix) => deltaNetTensors(spec, layer, `${prefix}.linear_attn`),
};

const QUERY_DOWN: LinearRoles = { weight: 'queryDown', bias: 'qkvBias' };
const LATENT_DOWN: LinearRoles = { weight: 'latentDown', bias: 'qkvBias' };
const LATENT_UP: LinearRoles = { weight: 'latentUp', bias: 'qkvBias' };

/** None of them has a bias. */
function latentTensors(spec: ModelSpec, layer: number, name: string): WeightTensor[] {
  const { hiddenSize, heads } = spec;
  const { queryRank, kvRank, rotaryDim, keyDim, valueDim } = spec.latent!;
  const matrix = (roles: LinearRoles, module: string, outputs: number, inputs: number) =>
    linear(spec, layer, roles, [{ name: `${name}.${module}`, outputs }], inputs, false);
  const queries = heads * (keyDim + rotaryDim);
  const ofQueries =
    queryRank === null
      ? matrix(QKV, 'q_proj', queries, hiddenSize)
      : [
          ...matrix(QUERY_DOWN, 'q_a_proj', queryRank, hiddenSize),
          norm({ role: 'queryDownNorm', layer }, `${name}.q_a_layernorm`, queryRank),
          ...matrix(QKV, 'q_b_proj', queries, queryRank),
        ];
  return [
    ...ofQueries,
    ...matrix(LATENT_DOWN, 'kv_a_proj_with_mqa', kvRank + rotaryDim, hiddenSize),
    norm({ role: 'latentNorm', layer }, `${name}.kv_a_layernorm`, kvRank),
    ...byHeads(spec, matrix(LATENT_UP, 'kv_b_proj', heads * (keyDim + valueDim), kvRank)),
    ...matrix(OUTPUT, 'o_proj', hiddenSize, heads * valueDim),
  ];
}

/** What is multiplied head by head, for which there is no product in 4 bits. */
function byHeads({ quantization }: ModelSpec, tensors: readonly WeightTensor[]) {
  const [module] = tensors.flatMap(({ int4 = [] }) => int4);
  if (module === undefined) return tensors;
  const name = INT4_NAMES[int4Of(quantization)!.order];
  const message = `config.json: "quantization_config" has ${module.module} in ${name}`;
  throw new ModelError('unsupported', `${message}; supported: FP8, or not quantised`);
}

const PER_LAYER_GATE: LinearRoles = { weight: 'perLayerGate', bias: 'gateUpBias' };
const PER_LAYER_BACK: LinearRoles = { weight: 'perLayerBack', bias: 'downBias' };

/** None of them has a bias. */
function perLayerTensors(spec: ModelSpec, layer: number, prefix: string): WeightTensor[] {
  const { perLayer, hiddenSize } = spec;
  if (perLayer === null) return [];
  const { width } = perLayer;
  const gate = [{ name: `${prefix}.per_layer_input_gate`, outputs: width }];
  const back = [{ name: `${prefix}.per_layer_projection`, outputs: hiddenSize }];
  return [
    ...linear(spec, layer, PER_LAYER_GATE, gate, hiddenSize, false),
    ...linear(spec, layer, PER_LAYER_BACK, back, width, false),
    norm({ role: 'perLayerNorm', layer }, `${prefix}.post_per_layer_input_norm`, hiddenSize),
  ];
}

/** What all layers have of it together, which is never quantised. */
function perLayerTables({ perLayer, layers, hiddenSize }: ModelSpec): WeightTensor[] {
  if (perLayer === null) return [];
  const width = layers * perLayer.width;
  const shape = [perLayer.vocabularySize, width];
  const table = { name: 'model.embed_tokens_per_layer.weight', shape };
  const projection = {
    name: 'model.per_layer_model_projection.weight',
    shape: [width, hiddenSize],
  };
  return [
    tensorOf({ role: 'perLayerTable' }, 'matrix', [table]),
    tensorOf({ role: 'perLayerProjection' }, 'matrix', [projection]),
    norm({ role: 'perLayerTableNorm' }, 'model.per_layer_projection_norm', perLayer.width),
  ];
}

/** A number near one, as norms are. */
function layerScale(layer: number, name: string): WeightTensor {
  return tensorOf({ role: 'layerScale', layer }, 'norm', [{ name, shape: [1] }]);
}

const ATTENTION_GATE: LinearRoles = { weight: 'attentionGate', bias: 'attentionGateBias' };

function attentionTensors(spec: ModelSpec, layer: number, name: string): WeightTensor[] {
  const { hiddenSize, heads } = spec;
  const { headDim, kvHeads, lineKv } = spec.layerKinds[layer]!;
  const queryWidth = heads * headDim;
  const kvWidth = kvHeads * headDim;
  const query = `${name}.q_proj`;
  // With a gate, each head has its query's rows first and then as many of its gate.
  const ofHeads = (half: 0 | 1): Module[] =>
    Array.from({ length: heads }, (_, head) => ({
      name: query,
      outputs: headDim,
      part: { from: (2 * head + half) * headDim, of: 2 * queryWidth },
    }));
  const apart = [
    ...(spec.attentionGate ? ofHeads(0) : [{ name: query, outputs: queryWidth }]),
    ...[`${name}.k_proj`, `${name}.v_proj`]
      .slice(0, LINE_KV_PARTS[lineKv])
      .map((module) => ({ name: module, outputs: kvWidth })),
  ];
  const fused = [{ name: `${name}.qkv_proj`, outputs: queryWidth + 2 * kvWidth }];
  const qkv = spec.fusedModules ? fused : apart;
  const gate = spec.attentionGate
    ? linear(spec, layer, ATTENTION_GATE, ofHeads(1), hiddenSize, spec.qkvBias)
    : [];
  const output = [{ name: `${name}.o_proj`, outputs: hiddenSize }];
  const isWhole = spec.qkNorm === 'whole';
  const keyNorm = norm({ role: 'keyNorm', layer }, `${name}.k_norm`, isWhole ? kvWidth : headDim);
  const headNorms = [
    norm({ role: 'queryNorm', layer }, `${name}.q_norm`, isWhole ? queryWidth : headDim),
    ...(lineKv === 'none' ? [] : [keyNorm]),
  ];
  const sinks = { name: `${name}.sinks`, shape: [heads] };
  return [
    ...linear(spec, layer, QKV, qkv, hiddenSize, spec.qkvBias),
    ...gate,
    ...(spec.qkNorm === 'none' ? [] : headNorms),
    ...(spec.attentionSinks ? [tensorOf({ role: 'sinks', layer }, 'bias', [sinks])] : []),
    ...linear(spec, layer, OUTPUT, output, queryWidth, spec.outputBias),
  ];
}

const GATES: LinearRoles = { weight: 'gates', bias: 'routerBias' };

/** Rows of modules that have q, k, v and z of one key head after the other, in flat order. */
function byKeyHead(name: string, spec: DeltaNet): { qkvz: Module[]; ba: Module[] } {
  const { keyHeads, valueHeads, keyDim, valueDim } = spec;
  const perKey = valueHeads / keyHeads;
  const values = perKey * valueDim;
  const group = 2 * keyDim + 2 * values;
  const rows = (module: string, of: number, size: number, from: number, outputs: number) =>
    Array.from({ length: keyHeads }, (_, head) => ({
      name: `${name}.${module}`,
      outputs,
      part: { from: head * size + from, of },
    }));
  const qkvz = (from: number, outputs: number) =>
    rows('in_proj_qkvz', keyHeads * group, group, from, outputs);
  const ba = (from: number) => rows('in_proj_ba', 2 * valueHeads, 2 * perKey, from, perKey);
  return {
    qkvz: [
      ...qkvz(0, keyDim),
      ...qkvz(keyDim, keyDim),
      ...qkvz(2 * keyDim, values),
      ...qkvz(2 * keyDim + values, values),
    ],
    ba: [...ba(0), ...ba(perKey)],
  };
}

function deltaNetTensors(spec: ModelSpec, layer: number, name: string): WeightTensor[] {
  const { hiddenSize } = spec;
  const net = spec.deltaNet!;
  const { keyHeads, valueHeads, keyDim, valueDim } = net;
  const valueWidth = valueHeads * valueDim;
  const channels = 2 * keyHeads * keyDim + valueWidth;
  const flat = {
    qkvz: [
      { name: `${name}.in_proj_qkv`, outputs: channels },
      { name: `${name}.in_proj_z`, outputs: valueWidth },
    ],
    ba: [
      { name: `${name}.in_proj_b`, outputs: valueHeads },
      { name: `${name}.in_proj_a`, outputs: valueHeads },
    ],
  };
  const { qkvz, ba } = net.stored === 'flat' ? flat : byKeyHead(name, net);
  const output = [{ name: `${name}.out_proj`, outputs: hiddenSize }];
  const numbers = (role: 'decayLog' | 'stepBias', of: string) =>
    inF32(tensorOf({ role, layer }, 'bias', [{ name: `${name}.${of}`, shape: [valueHeads] }]));
  const conv = { name: `${name}.conv1d.weight`, shape: [channels, 1, 4] };
  return [
    ...linear(spec, layer, QKV, qkvz, hiddenSize, false),
    ...linear(spec, layer, GATES, ba, hiddenSize, false),
    { ...tensorOf({ role: 'conv', layer }, 'bias', [conv]), kind: 'weight' },
    numbers('decayLog', 'A_log'),
    numbers('stepBias', 'dt_bias'),
    norm({ role: 'headNorm', layer }, `${name}.norm`, valueDim),
    ...linear(spec, layer, OUTPUT, output, valueWidth, false),
  ];
}

const inF32 = (tensor: WeightTensor): WeightTensor => ({ ...tensor, format: 'f32' });

function feedForwardTensors(spec: ModelSpec, layer: number, prefix: string): WeightTensor[] {
  const { feedForward } = spec.layerKinds[layer]!;
  if (feedForward.kind === 'dense') {
    return denseTensors(spec, layer, `${prefix}.mlp`, feedForward);
  }
  const { beside } = feedForward;
  return beside === null
    ? expertTensors(spec, layer, `${prefix}.mlp`, feedForward)
    : besideTensors(spec, layer, prefix, feedForward, beside);
}

function denseTensors(
  spec: ModelSpec,
  layer: number,
  prefix: string,
  { intermediateSize, bias }: DenseFeedForward,
): WeightTensor[] {
  const fused = [{ name: `${prefix}.gate_up_proj`, outputs: 2 * intermediateSize }];
  const first = spec.fusedModules ? fused : gateUp(prefix, intermediateSize);
  const down = [{ name: `${prefix}.down_proj`, outputs: spec.hiddenSize }];
  return [
    ...linear(spec, layer, GATE_UP, first, spec.hiddenSize, bias),
    ...linear(spec, layer, DOWN, down, intermediateSize, bias),
  ];
}

/** What the three products of an expert are called. */
interface ProductNames {
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

const PRODUCTS: ProductNames = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };
const NUMBERED_PRODUCTS: ProductNames = { gate: 'w1', up: 'w3', down: 'w2' };

function gateUp(prefix: string, outputs: number, { gate, up } = PRODUCTS): Module[] {
  return [
    { name: `${prefix}.${gate}`, outputs },
    { name: `${prefix}.${up}`, outputs },
  ];
}

const ROUTER: LinearRoles = { weight: 'router', bias: 'routerBias' };
const EXPERT_GATE_UP: LinearRoles = { weight: 'expertGateUp', bias: 'expertGateUpBias' };
const EXPERT_DOWN: LinearRoles = { weight: 'expertDown', bias: 'expertDownBias' };
/** None of them has a bias. */
const SHARED_GATE_UP: LinearRoles = { weight: 'sharedGateUp', bias: 'gateUpBias' };
const SHARED_DOWN: LinearRoles = { weight: 'sharedDown', bias: 'downBias' };

function sharedTensors(
  spec: ModelSpec,
  layer: number,
  prefix: string,
  { name, intermediateSize, isGated }: SharedExpert,
): WeightTensor[] {
  const { hiddenSize } = spec;
  const module = `${prefix}.${name}`;
  const down = [{ name: `${module}.down_proj`, outputs: hiddenSize }];
  const gate = { name: `${module}_gate.weight`, shape: [1, hiddenSize] };
  return [
    ...linear(spec, layer, SHARED_GATE_UP, gateUp(module, intermediateSize), hiddenSize, false),
    ...linear(spec, layer, SHARED_DOWN, down, intermediateSize, false),
    ...(isGated
      ? [{ ...tensorOf({ role: 'sharedGate', layer }, 'bias', [gate]), kind: 'weight' as const }]
      : []),
  ];
}

function expertTensors(
  spec: ModelSpec,
  layer: number,
  block: string,
  feedForward: ExpertsFeedForward,
): WeightTensor[] {
  const { hiddenSize } = spec;
  const { experts, intermediateSize: inner, routerBias, bias, stored, shared } = feedForward;
  const prefix = stored === 'sparse block' ? block.replace(/mlp$/, 'block_sparse_moe') : block;
  // Routers are never quantised, whatever is.
  const plain = { ...spec, quantization: null };
  const router = [
    { name: `${prefix}.${stored === 'mxfp4 stack' ? 'router' : 'gate'}`, outputs: experts },
  ];
  const biasOwner = stored === 'sparse block' ? prefix : `${prefix}.gate`;
  const choiceBias = { name: `${biasOwner}.e_score_correction_bias`, shape: [experts] };
  return [
    ...linear(plain, layer, ROUTER, router, hiddenSize, routerBias),
    ...(feedForward.choiceBias
      ? [inF32(tensorOf({ role: 'choiceBias', layer }, 'bias', [choiceBias]))]
      : []),
    ...routedTensors(spec, layer, `${prefix}.experts`, { experts, inner, bias, stored }),
    ...(shared === null ? [] : sharedTensors(spec, layer, prefix, shared)),
  ];
}

interface Routed extends Pick<ExpertsFeedForward, 'experts' | 'bias' | 'stored'> {
  readonly inner: number;
}

function routedTensors(
  spec: ModelSpec,
  layer: number,
  name: string,
  { experts, inner, bias, stored }: Routed,
): WeightTensor[] {
  const { hiddenSize } = spec;
  const gateUpShape = [experts, 2 * inner, hiddenSize] as const;
  const downShape = [experts, hiddenSize, inner] as const;
  switch (stored) {
    case 'modules':
    case 'sparse block': {
      const names = stored === 'modules' ? PRODUCTS : NUMBERED_PRODUCTS;
      const all = Array.from({ length: experts }, (_, expert) => `${name}.${expert}`);
      const first = all.flatMap((each) => gateUp(each, inner, names));
      const second = all.map((each) => ({ name: `${each}.${names.down}`, outputs: hiddenSize }));
      return [
        ...linear(spec, layer, EXPERT_GATE_UP, first, hiddenSize, bias),
        ...linear(spec, layer, EXPERT_DOWN, second, inner, bias),
      ];
    }
    case 'stack':
    case 'stack of layer':
      return [
        stacked(spec, layer, 'expertGateUp', `${name}.gate_up_proj`, gateUpShape),
        stacked(spec, layer, 'expertDown', `${name}.down_proj`, downShape),
      ];
    case 'mxfp4 stack':
      return [
        ...mxfp4Stack(layer, EXPERT_GATE_UP, `${name}.gate_up_proj`, gateUpShape),
        ...mxfp4Stack(layer, EXPERT_DOWN, `${name}.down_proj`, downShape),
      ];
  }
}

/** Experts [experts, outputs, inputs] in one tensor, which are never quantised so. */
function stacked(
  spec: ModelSpec,
  layer: number,
  role: 'expertGateUp' | 'expertDown',
  name: string,
  shape: readonly [number, number, number],
): WeightTensor {
  if (isQuantized(spec.quantization, name)) {
    const what = `${name}, experts in one tensor, in ${formatWord(spec.quantization)}`;
    const message = `config.json: "quantization_config" has ${what}`;
    throw new ModelError('unsupported', `${message}; supported: one module for each`);
  }
  const tensor = tensorOf({ role, layer }, 'matrix', [{ name, shape }]);
  return { ...tensor, shape: [shape[0] * shape[1], shape[2]] };
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
    ...perLayerTables(spec),
    ...Array.from({ length: spec.layers }, (_, layer) => layerTensors(spec, layer)).flat(),
    norm({ role: 'finalNorm' }, 'model.norm', spec.hiddenSize),
    ...(spec.tiedHead ? [] : [tensorOf({ role: 'head' }, 'matrix', head)]),
  ];
}
