import { invariant } from '@bridgekeeper/bridge';
import {
  bytesPerElement,
  type ElementType,
  type Launch,
  type OpArgs,
  qkvWidth,
  type Slice,
  type Stream,
  slice,
  type Vocabulary,
} from '@bridgekeeper/device';
import {
  type ExpertsFeedForward,
  heldExperts,
  type LayerKind,
  type ModelSpec,
} from '../models/spec.ts';
import type {
  DenseWeights,
  ExpertsWeights,
  LayerWeights,
  WeightMatrix,
  Weights,
} from '../models/weights.ts';
import type { StateCopy } from '../scheduler/plan.ts';
import { deltaNetSizes, kvPools, netLayers } from './layer-sizes.ts';
import {
  historyTokens,
  mostLines,
  pagesPerRow,
  type RunnerBuffers,
  type RunnerShape,
  ropeTables,
  trialBytes,
} from './shapes.ts';

/** Everything a forward pass needs that stays the same from step to step. */
export interface ForwardParts {
  readonly spec: ModelSpec;
  readonly shape: RunnerShape;
  /** Others once the model was put to sleep and woke up (see `Sleeper`). */
  weights: Weights;
  /** Likewise. */
  buffers: RunnerBuffers;
  readonly stream: Stream;
  /** What grammars step through; null: rows have none. */
  readonly vocabulary: Vocabulary | null;
  /** How the device stores activations. */
  readonly element: ElementType;
  /** Memory has no contents (`DeviceInfo.isHollow`). */
  readonly isHollow: boolean;
}

/** Lines [first, first + count) of a batch, whose attention is of one kind. */
export interface BatchPart {
  readonly first: number;
  readonly count: number;
  readonly phase: OpArgs['attention']['phase'];
}

/**
 * The transformer over `count` lines of a flat batch: tokens, rows and positions are in their
 * buffers; the hidden states are left in `residual` [count, hidden], undefined outside of parts.
 * Every architecture we run is this, with what its family adds before, between and behind the
 * products, each layer of its kind.
 */
export function launchForward(
  parts: ForwardParts,
  count: number,
  batch: readonly BatchPart[],
): void {
  const places = batch.map(({ first, count, phase }) => `${first}+${count} ${phase}`);
  launchKept(parts, `${count}: ${places.join()}`, (recorded) => {
    recordForward(recorded, count, batch);
  });
}

/** Lists of so many shapes are kept; prompts come in few. */
const KEPT_SHAPES = 256;
const keptLaunches = new WeakMap<
  Weights,
  { readonly buffers: RunnerBuffers; readonly byShape: Map<string, readonly Launch[]> }
>();

/**
 * Launches what `record` does, which is the same every time for a `shape` as long as weights and
 * buffers are where they are: making the arguments takes the host longer than launching.
 */
export function launchKept(
  parts: ForwardParts,
  shape: string,
  record: (parts: LaunchParts) => void,
): void {
  const { weights, buffers, stream } = parts;
  let kept = keptLaunches.get(weights);
  if (kept?.buffers !== buffers) {
    kept = { buffers, byShape: new Map() };
    keptLaunches.set(weights, kept);
  }
  let launches = kept.byShape.get(shape);
  if (launches === undefined) {
    launches = recorded(parts, record);
    if (kept.byShape.size === KEPT_SHAPES) kept.byShape.clear();
    kept.byShape.set(shape, launches);
  }
  stream.launchEach(launches);
}

function recorded(parts: LaunchParts, record: (parts: LaunchParts) => void): readonly Launch[] {
  const launches: Launch[] = [];
  const stream: LaunchParts['stream'] = {
    launch: (name, args) => {
      launches.push({ name, args } as Launch);
    },
  };
  record({ ...parts, stream });
  return launches;
}

/** What operations are launched on. */
export type LaunchParts = Omit<ForwardParts, 'stream'> & {
  readonly stream: Pick<Stream, 'launch'>;
};

function recordForward(parts: LaunchParts, count: number, batch: readonly BatchPart[]): void {
  const { spec, weights, stream } = parts;
  const { tokens, residual } = slices(parts.buffers);
  const { hiddenSize: width, vocabularySize: vocab, embeddingScale: scale } = spec;
  stream.launch('embed', {
    table: weights.embed,
    tokens,
    out: residual,
    scale,
    count,
    width,
    vocab,
  });
  launchPerLayerInputs(parts, count);
  if (!parts.isHollow) {
    for (let layer = 0; layer < spec.layers; layer++) launchLayer(parts, layer, count, batch);
    return;
  }
  // Nothing can tell layers of one kind apart where there are no weights and no KV.
  const known = new Map<number, readonly Launch[]>();
  for (const first of firstAlike(parts)) {
    let launches = known.get(first);
    if (launches === undefined) {
      launches = recorded(parts, (layer) => launchLayer(layer, first, count, batch));
      known.set(first, launches);
    }
    for (const { name, args } of launches) stream.launch(name, args);
  }
}

const alikeLayers = new WeakMap<Weights, readonly number[]>();

/** Of each layer, the first one that is like it but for where its weights and KV are. */
function firstAlike({ spec, weights }: LaunchParts): readonly number[] {
  let layers = alikeLayers.get(weights);
  if (layers === undefined) {
    const isSlice = (value: unknown): value is Slice =>
      typeof value === 'object' && value !== null && 'offsetBytes' in value;
    const sizes = (_: string, value: unknown) => (isSlice(value) ? value.bytes : value);
    const kinds = weights.layers.map((layer, at) => {
      const { kvLayer: _, ...kind } = spec.layerKinds[at]!;
      return JSON.stringify([kind, layer], sizes);
    });
    layers = kinds.map((kind) => kinds.indexOf(kind));
    alikeLayers.set(weights, layers);
  }
  return layers;
}

function launchLayer(
  parts: LaunchParts,
  layer: number,
  count: number,
  batch: readonly BatchPart[],
): void {
  const { mixer, feedForward } = parts.spec.layerKinds[layer]!;
  if (mixer === 'attention') launchAttention(parts, layer, count, batch);
  else if (mixer === 'latent-attention') launchLatent(parts, layer, count, batch);
  else launchDeltaNet(parts, layer, count, batch);
  if (feedForward.kind === 'dense') launchDense(parts, layer, count);
  else if (feedForward.beside === null) launchExperts(parts, layer, feedForward, count);
  else launchBesideExperts(parts, layer, feedForward, count);
  launchPerLayerBranch(parts, layer, count);
}

/** Of all layers: what their table has of the tokens, and a projection of the embeddings. */
function launchPerLayerInputs(parts: LaunchParts, count: number): void {
  const { spec, weights, stream } = parts;
  const { perLayer, layers, hiddenSize, rmsNormEpsilon } = spec;
  if (perLayer === null || weights.perLayer === null) return;
  const { table, projection, norm } = weights.perLayer;
  const { tokens, residual, perLayerInputs: out, perLayerBranch: input } = slices(parts.buffers);
  const { width, vocabularySize: vocab } = perLayer;
  // Their sum over the root of 2, of which the table's part is times the root of the width.
  const scale = Math.sqrt(width / 2);
  stream.launch('embed', { table, tokens, out, scale, count, width: layers * width, vocab });
  launchLinear(parts, count, { ...projection, input: residual, out: input });
  stream.launch('add-branch', {
    input,
    norm,
    normOffset: 0,
    // The projection is over the root of its inputs, which changes nothing else under a norm.
    epsilon: rmsNormEpsilon * hiddenSize,
    scale: Math.SQRT1_2,
    outScale: null,
    epilogue: 'add',
    out,
    count: count * layers,
    width,
  });
}

/** A layer's last branch, gated by what the layer has of the token. */
function launchPerLayerBranch(parts: LaunchParts, layer: number, count: number): void {
  const { perLayer, layers } = parts.spec;
  const weights = parts.weights.layers[layer]!;
  const { perLayerGate: gate, perLayerBack: back, perLayerNorm, layerScale } = weights;
  if (perLayer === null || gate === null || back === null) return;
  const { residual, perLayerInputs: lines, perLayerGated: out } = slices(parts.buffers);
  launchLinear(parts, count, { ...gate, input: residual, out });
  const { width } = perLayer;
  const span = { count, width, stride: layers * width, first: layer * width };
  parts.stream.launch('gate-span', { out, lines, activation: 'gelu-tanh', ...span });
  launchBranch(parts, count, perLayerNorm, { ...back, input: out }, layerScale);
}

/** The last product of a branch, and the branch's way into the residual stream. */
function launchBranch(
  parts: LaunchParts,
  count: number,
  norm: Slice | null,
  product: Omit<Linear, 'out' | 'epilogue'>,
  outScale: Slice | null = null,
): void {
  const { residual, branch, partial } = slices(parts.buffers);
  const isPlain = norm === null && parts.spec.residualScale === 1 && outScale === null;
  if (parts.shape.ranks > 1) {
    launchLinear(parts, count, { ...product, out: partial });
    launchSum(parts, count, isPlain ? 'add' : 'store');
  } else {
    const to = isPlain ? ({ epilogue: 'add', out: residual } as const) : { out: branch };
    launchLinear(parts, count, { ...product, ...to });
  }
  if (!isPlain) launchAddBranch(parts, count, norm, outScale);
}

/** What is in `branch`. */
function launchAddBranch(
  { spec, buffers, stream }: LaunchParts,
  count: number,
  norm: Slice | null,
  outScale: Slice | null,
  input = slices(buffers).branch,
) {
  const { residual: out } = slices(buffers);
  const { normOffset, rmsNormEpsilon: epsilon, residualScale: scale, hiddenSize: width } = spec;
  const sizes = { count, width };
  const operands = { input, norm, outScale, out, epilogue: 'add' as const };
  stream.launch('add-branch', { ...operands, normOffset, epsilon, scale, ...sizes });
}

function launchAttention(
  parts: LaunchParts,
  layer: number,
  count: number,
  batch: readonly BatchPart[],
): void {
  const { spec, shape, stream } = parts;
  const { heads, normOffset, rmsNormEpsilon: epsilon } = spec;
  const kind = spec.layerKinds[layer]!;
  const { kvHeads, headDim, lineKv, window, rope } = kind;
  const elementBytes = bytesPerElement(parts.element);
  const weights = parts.weights.layers[layer]!;
  const buffers = slices(parts.buffers);
  const { residual, qkv, attended, tokenRows, positions, attentionGate } = buffers;
  const { inputNorm: norm, qkvBias, outputBias } = weights;
  launchLinear(parts, count, { ...weights.qkv, input: residual, norm, bias: qkvBias, out: qkv });
  if (weights.attentionGate !== null) {
    const bias = weights.attentionGateBias;
    const out = attentionGate;
    launchLinear(parts, count, { ...weights.attentionGate, input: residual, norm, bias, out });
  }
  const table = ropeTables(spec, shape)[rope ?? spec.ropes.length]!;
  const isWhole = spec.qkNorm === 'whole';
  launchQueries(parts, weights, kind, count);
  for (const { first, count, phase } of batch) {
    const lines = (buffer: Slice, width: number) =>
      linesOf(buffer, { first, count, lineBytes: width * elementBytes });
    stream.launch('attention', {
      qkv: lines(qkv, qkvWidth({ heads, ...kind })),
      lineKv,
      valueNorm: spec.valueNorm,
      sinks: weights.sinks,
      queryNorm: isWhole ? null : weights.queryNorm,
      keyNorm: isWhole ? null : weights.keyNorm,
      normOffset,
      epsilon,
      rope: slice(buffers.rope.buffer, table.offsetBytes, table.bytes),
      rotaryDim: rope === null ? headDim : spec.ropes[rope]!.rotaryDim,
      ...pagesOf(parts, layer),
      kvFormat: shape.kvFormat,
      tokenRows: linesOf(tokenRows, { first, count, lineBytes: WORD_BYTES }),
      positions: linesOf(positions, { first, count, lineBytes: WORD_BYTES }),
      kvHeads,
      headDim,
      out: lines(attended, heads * headDim),
      count,
      heads,
      scale: spec.attentionScale,
      window,
      phase,
    });
  }
  if (weights.attentionGate !== null) {
    const elements = count * heads * headDim;
    stream.launch('sigmoid-gate', { input: attentionGate, out: attended, elements });
  }
  const product = { ...weights.output, input: attended, bias: outputBias };
  launchBranch(parts, count, weights.attendedNorm, product);
}

/** Where the layer's keys and values are, and by which table. */
function pagesOf({ spec, shape, buffers }: LaunchParts, layer: number) {
  const { elements, places } = kvPools(spec, shape.windowPages > 0);
  const { pool, first } = places[layer]!;
  const { kv, kvWindow, pageTable, windowTable } = slices(buffers);
  const { pageTokens } = shape;
  return {
    kv: pool === 'window' ? kvWindow : kv,
    pageTable: pool === 'window' ? windowTable : pageTable,
    pageElements: elements[pool] * pageTokens,
    layerElement: first * pageTokens,
    pageTokens,
    pagesPerRow: pagesPerRow(shape),
  };
}

/** What some families do to queries and keys before they are turned. */
function launchQueries(
  { spec, buffers, stream }: LaunchParts,
  { queryNorm, keyNorm }: LayerWeights,
  kind: LayerKind,
  count: number,
): void {
  const { heads, qkNorm, queryScaling, rmsNormEpsilon: epsilon } = spec;
  const { kvHeads, headDim } = kind;
  const { qkv: lines, positions } = slices(buffers);
  const stride = qkvWidth({ heads, ...kind });
  const queries = heads * headDim;
  if (qkNorm === 'whole') {
    const common = { lines, epsilon, count, stride };
    stream.launch('norm-span', { ...common, norm: queryNorm!, first: 0, width: queries });
    const width = kvHeads * headDim;
    stream.launch('norm-span', { ...common, norm: keyNorm!, first: queries, width });
  }
  if (queryScaling !== null) {
    const common = { lines, positions, count, stride };
    stream.launch('scale-by-position', { ...common, ...queryScaling, width: queries });
  }
}

/** transformers' own, whatever the model's other norms have. */
const LATENT_EPSILON = 1e-6;

/**
 * What makes keys and values of a token's vector is multiplied into queries and outputs instead:
 * heads attend to the vectors themselves.
 */
function launchLatent(
  parts: LaunchParts,
  layer: number,
  count: number,
  batch: readonly BatchPart[],
): void {
  const { spec, shape, stream } = parts;
  const { heads } = spec;
  const kind = spec.layerKinds[layer]!;
  const { kvRank: rank, rotaryDim, keyDim, valueDim } = spec.latent!;
  const elementBytes = bytesPerElement(parts.element);
  const weights = parts.weights.layers[layer]!;
  const { queryDown, queryDownNorm, latentDown, latentNorm, latentUp } = weights.latent!;
  const buffers = slices(parts.buffers);
  const { residual, qkv, queryLatents, latents, latentQueries, latentValues, attended } = buffers;
  const { tokenRows, positions } = buffers;
  const { inputNorm: norm } = weights;
  if (queryDown === null) {
    launchLinear(parts, count, { ...weights.qkv, input: residual, norm, out: qkv });
  } else {
    launchLinear(parts, count, { ...queryDown, input: residual, norm, out: queryLatents });
    const normed = { input: queryLatents, norm: queryDownNorm, epsilon: LATENT_EPSILON };
    launchLinear(parts, count, { ...weights.qkv, ...normed, out: qkv });
  }
  launchLinear(parts, count, { ...latentDown, input: residual, norm, out: latents });
  const width = rank + rotaryDim;
  const ofHeads = headMatrix(latentUp, { heads, headRows: keyDim + valueDim, count });
  stream.launch('head-linear', {
    ...ofHeads,
    input: qkv,
    inputStride: keyDim + rotaryDim,
    out: latentQueries,
    outStride: width,
    firstRow: 0,
    rows: keyDim,
    isTransposed: true,
  });
  const table = ropeTables(spec, shape)[kind.rope!]!;
  for (const { first, count } of batch) {
    const lines = (buffer: Slice, width: number) =>
      linesOf(buffer, { first, count, lineBytes: width * elementBytes });
    stream.launch('latent-attention', {
      projected: lines(qkv, heads * (keyDim + rotaryDim)),
      projectedStride: keyDim + rotaryDim,
      turnedFrom: keyDim,
      queries: lines(latentQueries, heads * width),
      latents: lines(latents, width),
      norm: latentNorm,
      epsilon: LATENT_EPSILON,
      rope: slice(buffers.rope.buffer, table.offsetBytes, table.bytes),
      ...pagesOf(parts, layer),
      tokenRows: linesOf(tokenRows, { first, count, lineBytes: WORD_BYTES }),
      positions: linesOf(positions, { first, count, lineBytes: WORD_BYTES }),
      out: lines(attended, heads * rank),
      count,
      heads,
      rank,
      rotaryDim,
      scale: spec.attentionScale,
    });
  }
  stream.launch('head-linear', {
    ...ofHeads,
    input: attended,
    inputStride: rank,
    out: latentValues,
    outStride: valueDim,
    firstRow: keyDim,
    rows: valueDim,
    isTransposed: false,
  });
  launchBranch(parts, count, weights.attendedNorm, { ...weights.output, input: latentValues });
}

function headMatrix(
  { inputs: columns, format, weight, scales, blockOutputs, blockInputs }: WeightMatrix,
  sizes: { readonly heads: number; readonly headRows: number; readonly count: number },
) {
  invariant(format !== 'int4', 'what is multiplied head by head is not int4');
  return { weight, format, scales, blockOutputs, blockInputs, columns, ...sizes };
}

function launchDeltaNet(
  parts: LaunchParts,
  layer: number,
  count: number,
  batch: readonly BatchPart[],
): void {
  const { spec, stream } = parts;
  const weights = parts.weights.layers[layer]!;
  const { gates, headNorm } = weights.deltaNet!;
  const { valueHeads, valueDim } = spec.deltaNet!;
  const { channels, width } = deltaNetSizes(spec, bytesPerElement(parts.element))!;
  const { residual, attended } = slices(parts.buffers);
  const { inputNorm: norm } = weights;
  const isTrial = batch.some(({ phase }) => phase === 'verify');
  const net = netLinesOf(parts, layer, isTrial);
  launchLinear(parts, count, { ...weights.qkv, input: residual, norm, out: net.qkv });
  launchLinear(parts, count, { ...gates, input: residual, norm, out: net.gates });
  for (const part of batch) launchNetStates(parts, layer, net, part, isTrial);
  stream.launch('gated-norm', {
    lines: net.qkv,
    norm: headNorm,
    epsilon: spec.rmsNormEpsilon,
    out: attended,
    count,
    stride: width,
    first: channels,
    heads: valueHeads,
    width: valueDim,
  });
  launchBranch(parts, count, weights.attendedNorm, { ...weights.output, input: attended });
}

/** What a net's states are moved on by: q, k, v and z of each line, and its gates. */
interface NetLines {
  readonly qkv: Slice;
  readonly gates: Slice;
}

/** Where they are; of trials each layer has its own, until its states move on. */
function netLinesOf({ spec, shape, ...parts }: LaunchParts, layer: number, isTrial: boolean) {
  const { qkv, netGates: gates, trialLines, trialGates } = slices(parts.buffers);
  if (!isTrial) return { qkv, gates };
  const { lineBytes, gateBytes } = trialBytes(spec, shape, bytesPerElement(parts.element));
  const own = netsBefore(spec, layer);
  return {
    qkv: slice(trialLines.buffer, own * lineBytes, lineBytes),
    gates: slice(trialGates.buffer, own * gateBytes, gateBytes),
  };
}

/** Layers of the kind before this one. */
function netsBefore(spec: ModelSpec, layer: number): number {
  return netLayers({ ...spec, layerKinds: spec.layerKinds.slice(0, layer) });
}

/** What a net attends to, and its states behind these lines; in a trial they stay as they were. */
function launchNetStates(
  parts: LaunchParts,
  layer: number,
  { qkv, gates }: NetLines,
  { first, count }: Pick<BatchPart, 'first' | 'count'>,
  isTrial: boolean,
): void {
  const { spec, stream } = parts;
  const elementBytes = bytesPerElement(parts.element);
  const { conv, decayLog, stepBias } = parts.weights.layers[layer]!.deltaNet!;
  const { keyHeads, valueHeads, keyDim, valueDim } = spec.deltaNet!;
  const { channels, valueWidth, width, ...bytes } = deltaNetSizes(spec, elementBytes)!;
  const buffers = slices(parts.buffers);
  const { mixed, attended, tokenRows, positions } = buffers;
  const layers = netLayers(spec);
  const own = netsBefore(spec, layer);
  const lines = (buffer: Slice, elements: number) =>
    linesOf(buffer, { first, count, lineBytes: elements * elementBytes });
  const words = (buffer: Slice) => linesOf(buffer, { first, count, lineBytes: WORD_BYTES });
  const rows = { tokenRows: words(tokenRows), positions: words(positions), count, isTrial };
  const statesOf = (states: Slice, layerBytes: number) => ({
    states,
    rowBytes: layers * layerBytes,
    layerBytes: own * layerBytes,
  });
  const net = lines(mixed, channels);
  stream.launch('causal-conv', {
    ...rows,
    ...statesOf(buffers.convStates, bytes.convBytes),
    lines: lines(qkv, width),
    weight: conv,
    out: net,
    stride: width,
    channels,
  });
  stream.launch('delta-rule', {
    ...rows,
    ...statesOf(buffers.ruleStates, bytes.ruleBytes),
    mixed: net,
    gates: lines(gates, 2 * valueHeads),
    decayLog,
    stepBias,
    out: lines(attended, valueWidth),
    keyHeads,
    valueHeads,
    keyDim,
    valueDim,
  });
}

/**
 * Behind a step with drafts: states, which cannot go back, move on by the lines that were right,
 * and by no others. What attends to them is of no use any more.
 */
function launchSettledStates(parts: LaunchParts, count: number): void {
  parts.spec.layerKinds.forEach(({ mixer }, layer) => {
    if (mixer !== 'delta-net') return;
    launchNetStates(parts, layer, netLinesOf(parts, layer, true), { first: 0, count }, false);
  });
}

/**
 * Copies the state of a row, over all layers, to its place among the snapshots (`keep`), or from
 * there (`restore`). A snapshot is the convolutions' part and then the rules'.
 */
export function launchStateCopy(
  { spec, element, buffers, stream }: ForwardParts,
  direction: 'keep' | 'restore',
  { row, place }: StateCopy,
): void {
  const sizes = deltaNetSizes(spec, bytesPerElement(element));
  invariant(sizes !== null, 'only models with delta nets keep states of rows');
  const layers = netLayers(spec);
  const parts = [
    { states: buffers.convStates, bytes: layers * sizes.convBytes },
    { states: buffers.ruleStates, bytes: layers * sizes.ruleBytes },
  ];
  let offsetBytes = place * parts.reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { states, bytes } of parts) {
    const own = slice(states, row * bytes, bytes);
    const kept = slice(buffers.snapshots, offsetBytes, bytes);
    const [input, out] = direction === 'keep' ? [own, kept] : [kept, own];
    stream.launch('copy', { input, out, bytes });
    offsetBytes += bytes;
  }
}

function launchDense(parts: LaunchParts, layer: number, count: number): void {
  const { feedForward, postNorm, fedNorm, layerScale } = parts.weights.layers[layer]!;
  const { residual, activated } = slices(parts.buffers);
  const { gateUp, gateUpBias, down, downBias } = feedForward as DenseWeights;
  const kind = parts.spec.layerKinds[layer]!.feedForward;
  launchLinear(parts, count, {
    ...gateUp,
    input: residual,
    norm: postNorm,
    bias: gateUpBias,
    activation: kind.kind === 'dense' ? kind.activation : 'silu',
    epilogue: 'gate',
    out: activated,
  });
  const product = { ...down, input: activated, bias: downBias };
  const isLast = parts.spec.perLayer === null;
  launchBranch(parts, count, fedNorm, product, isLast ? layerScale : null);
}

/** Where a sum over experts that goes back into the residual stream is written. */
function backOf({ buffers, shape }: LaunchParts) {
  const { residual, partial } = slices(buffers);
  return shape.ranks === 1
    ? ({ epilogue: 'add', out: residual } as const)
    : ({ epilogue: 'store', out: partial } as const);
}

/** The sum of what the ranks have each computed a part of, for all of them. */
function launchSum(
  { buffers, shape, spec, stream }: LaunchParts,
  count: number,
  epilogue: 'store' | 'add' = 'add',
): void {
  if (shape.ranks === 1) return;
  const { residual, branch, partial } = slices(buffers);
  const out = epilogue === 'add' ? residual : branch;
  const sizes = { count, width: spec.hiddenSize };
  stream.launch('all-reduce', { inputs: [partial], out, epilogue, ...sizes });
}

/** `input` over its lines' roots of the mean squares, times `norm`, to `out`, or added to it. */
function launchNorm(
  { spec, stream }: LaunchParts,
  count: number,
  norm: Slice,
  operands: Pick<OpArgs['add-branch'], 'input' | 'out' | 'epilogue'>,
): void {
  const { normOffset, rmsNormEpsilon: epsilon, hiddenSize: width } = spec;
  const common = { normOffset, epsilon, scale: 1, outScale: null, count, width };
  stream.launch('add-branch', { ...operands, norm, ...common });
}

/** A dense branch and one of experts, each normed, and their sum normed again. */
function launchBesideExperts(
  parts: LaunchParts,
  layer: number,
  kind: ExpertsFeedForward,
  count: number,
): void {
  const { feedForward, postNorm, fedNorm, layerScale } = parts.weights.layers[layer]!;
  const weights = feedForward as ExpertsWeights;
  const { residual, activated, branch, joined, normed } = slices(parts.buffers);
  const { activation } = kind.beside!;
  const gate = { epilogue: 'gate', activation, norm: postNorm } as const;
  launchLinear(parts, count, { ...weights.gateUp!, ...gate, input: residual, out: activated });
  launchLinear(parts, count, { ...weights.down!, input: activated, out: branch });
  const first = { input: branch, out: joined, epilogue: 'store' } as const;
  launchNorm(parts, count, weights.besideNorm!, first);
  launchRoute(parts, layer, kind, count, {
    norm: weights.routerNorm!,
    // What the router reads is of no use to the experts.
    normed: branch,
    logitScale: parts.spec.hiddenSize ** -0.5,
  });
  const second = { input: residual, out: normed, epilogue: 'store' } as const;
  launchNorm(parts, count, weights.expertsNorm!, second);
  launchRouted(parts, layer, kind, count, { epilogue: 'store', out: branch });
  launchNorm(parts, count, weights.routedNorm!, { input: branch, out: joined, epilogue: 'add' });
  launchAddBranch(parts, count, fedNorm, layerScale, joined);
}

function launchExperts(
  parts: LaunchParts,
  layer: number,
  kind: ExpertsFeedForward,
  count: number,
): void {
  const { feedForward, postNorm: norm } = parts.weights.layers[layer]!;
  const { normed } = slices(parts.buffers);
  launchRoute(parts, layer, kind, count, { norm: norm!, normed, logitScale: 1 });
  launchRouted(parts, layer, kind, count, backOf(parts));
  launchSum(parts, count);
  launchShared(parts, feedForward as ExpertsWeights, count);
}

/** Who goes where is decided on the device and stays there; no shape depends on it. */
function launchRoute(
  parts: LaunchParts,
  layer: number,
  kind: ExpertsFeedForward,
  count: number,
  by: Pick<OpArgs['route'], 'norm' | 'normed' | 'logitScale'>,
): void {
  const { spec, buffers, stream } = parts;
  const { feedForward } = parts.weights.layers[layer]!;
  const { weighing, weightScale, groups } = kind;
  const { router, routerBias, choiceBias, expertScales } = feedForward as ExpertsWeights;
  const { residual, workspace, tokenRows, expertWeights: weights } = slices(buffers);
  stream.launch('route', {
    ...groupsOf(parts, kind, count),
    ...by,
    input: residual,
    normOffset: spec.normOffset,
    epsilon: spec.rmsNormEpsilon,
    router: router.weight,
    routerBias,
    choiceBias,
    choiceGroups: groups?.count ?? 1,
    keptGroups: groups?.kept ?? 1,
    expertScales,
    weighing,
    weightScale,
    tokenRows,
    weights,
    width: spec.hiddenSize,
    shares: kind.shares ?? [[0, kind.experts]],
    workspace,
  });
}

function groupsOf({ buffers }: LaunchParts, kind: ExpertsFeedForward, count: number) {
  const { experts: allExperts, expertsPerToken: topK } = kind;
  const { chosen, expertStarts: starts, expertOrder: order } = slices(buffers);
  return { chosen, starts, order, count, experts: heldExperts(kind), allExperts, topK };
}

/** The products of those that were chosen, of the lines in `normed`. */
function launchRouted(
  parts: LaunchParts,
  layer: number,
  kind: ExpertsFeedForward,
  count: number,
  back: Pick<OpArgs['expert-down'], 'epilogue' | 'out'>,
): void {
  const { buffers, stream } = parts;
  const { feedForward } = parts.weights.layers[layer]!;
  const { gate, stored } = kind;
  const { expertGateUp, expertDown, ...biases } = feedForward as ExpertsWeights;
  const { activated, workspace, normed, expertWeights: weights } = slices(buffers);
  const groups = groupsOf(parts, kind, count);
  const { outputs, ...gateUp } = expertGateUp;
  stream.launch('expert-gate', {
    ...groups,
    ...gateUp,
    ...gate,
    input: normed,
    bias: biases.expertGateUpBias,
    out: activated,
    inner: outputs / 2,
    isInterleaved: stored === 'mxfp4 stack',
  });
  stream.launch('expert-down', {
    ...groups,
    ...expertDown,
    input: activated,
    bias: biases.expertDownBias,
    weights,
    ...back,
    workspace,
  });
}

/** The expert of all tokens, whose input is what the router has normalised. */
function launchShared(
  parts: LaunchParts,
  { sharedGateUp, sharedDown, sharedGate }: ExpertsWeights,
  count: number,
): void {
  if (sharedGateUp === null || sharedDown === null) return;
  const { normed: input, sharedActivated: out, residual } = slices(parts.buffers);
  launchLinear(parts, count, { ...sharedGateUp, input, epilogue: 'gate', out });
  if (sharedGate !== null) {
    const { hiddenSize: inputs } = parts.spec;
    const width = sharedGateUp.outputs / 2;
    parts.stream.launch('gate-lines', { input, weight: sharedGate, out, count, inputs, width });
  }
  launchLinear(parts, count, { ...sharedDown, input: out, epilogue: 'add', out: residual });
}

/** Logits (f32) of `count` lines of `hidden` into the logits buffer. */
export function launchHead(parts: LaunchParts, hidden: Slice, count: number): void {
  const { head, finalNorm: norm } = parts.weights;
  const { logits, logitsPart } = slices(parts.buffers);
  const isDivided = head.outputs < parts.spec.vocabularySize;
  const out = isDivided ? logitsPart : logits;
  launchLinear(parts, count, { ...head, input: hidden, norm, out, outType: 'f32' });
  if (isDivided) {
    const sizes = { count, width: head.outputs };
    parts.stream.launch('all-gather', { inputs: [logitsPart], out: logits, ...sizes });
  }
  const { logits: finish, vocabularySize } = parts.spec;
  if (finish.scale === 1 && finish.cap === 0) return;
  parts.stream.launch('finish-logits', { ...finish, logits, elements: count * vocabularySize });
}

/** The logits of the tokens that `indices` names. */
export function launchPickedHead(parts: LaunchParts, indices: Slice, count: number): void {
  const { residual: input, selected: out } = slices(parts.buffers);
  const width = parts.spec.hiddenSize;
  parts.stream.launch('select', { input, indices, out, count, width });
  launchHead(parts, out, count);
}

type Linear = WeightMatrix &
  Pick<OpArgs['linear'], 'input' | 'out'> &
  Partial<
    Pick<OpArgs['linear'], 'norm' | 'epsilon' | 'bias' | 'activation' | 'epilogue' | 'outType'>
  >;

function launchLinear(parts: LaunchParts, count: number, linear: Linear): void {
  parts.stream.launch('linear', {
    norm: null,
    normOffset: parts.spec.normOffset,
    epsilon: parts.spec.rmsNormEpsilon,
    activation: 'silu',
    bias: null,
    epilogue: 'store',
    outType: parts.element,
    workspace: slice(parts.buffers.workspace),
    count,
    ...linear,
  });
}

/**
 * Samples a token for each of `count` logits lines, `linesPerRow` for each row, and moves the rows
 * on: by one token each, and by those that were drafted rightly.
 */
export function launchSampling(
  parts: LaunchParts,
  lineRows: Slice,
  count: number,
  linesPerRow = 1,
): void {
  const { shape, stream } = parts;
  const buffers = slices(parts.buffers);
  const { rows, control, counts, sampled, logits, bias, masks, logprobs, results } = buffers;
  const { grammarRows, grammarPool, tokenSpans, tokenHeads, tokenBytes } = buffers;
  const grammars = { grammarRows, grammarPool, tokenSpans, tokenHeads, tokenBytes };
  const lines = {
    rows,
    control,
    counts,
    sampled,
    lineRows,
    count,
    vocab: parts.spec.vocabularySize,
    ringSlots: shape.ringSlots,
    ringLines: mostLines(shape),
  };
  if (parts.vocabulary !== null) {
    const { vocab } = lines;
    stream.launch('grammar-mask', { ...grammars, rows, lineRows, masks, count, vocab });
  }
  stream.launch('sample', { ...lines, linesPerRow, logits, bias, masks, logprobs });
  if (shape.speculation === null) {
    stream.launch('advance', { ...lines, ...grammars, results });
  } else {
    const drafted = { ...historiesOf(parts), linesPerRow, tokens: buffers.tokens };
    stream.launch('accept', { ...lines, ...grammars, ...drafted, results });
  }
}

function historiesOf({ buffers, shape }: LaunchParts) {
  return { history: slices(buffers).history, historyTokens: historyTokens(shape) };
}

/** One step of `count` rows of the decode batch that the device holds, with so many drafts each. */
export function launchDecodeStep(parts: ForwardParts, count: number, drafts = 0): void {
  if (drafts > 0) {
    launchDraftedStep(parts, count, drafts);
    return;
  }
  launchBeginRows(parts, 0, count);
  launchForward(parts, count, [{ first: 0, count, phase: 'decode' }]);
  launchRowSampling(parts, 0, count);
}

/** What rows are expected to say is computed beside their last token, and taken if it was right. */
function launchDraftedStep(parts: ForwardParts, rowCount: number, drafts: number): void {
  const { shape, stream } = parts;
  const { rows, decodeRows, tokens, tokenRows, positions, residual } = slices(parts.buffers);
  const { lookupMin, lookupMax } = shape.speculation!;
  const linesPerRow = 1 + drafts;
  const count = rowCount * linesPerRow;
  const batch = { rows, decodeRows, tokens, tokenRows, positions, count: rowCount, linesPerRow };
  stream.launch('draft', { ...batch, ...historiesOf(parts), lookupMin, lookupMax });
  launchForward(parts, count, [{ first: 0, count, phase: 'verify' }]);
  launchHead(parts, residual, count);
  // Lines that were wrong are no row's from here on.
  launchSampling(parts, tokenRows, count, linesPerRow);
  if (parts.spec.deltaNet === null) return;
  launchKept(parts, `settle ${count}`, (recorded) => launchSettledStates(recorded, count));
}

/** The tokens of the first `count` decode rows become lines of the batch, from `first` on. */
export function launchBeginRows(parts: LaunchParts, first: number, count: number): void {
  const { rows, decodeRows, tokens, tokenRows, positions } = slices(parts.buffers);
  const lines = { first, count, lineBytes: WORD_BYTES };
  parts.stream.launch('begin-decode', {
    rows,
    decodeRows,
    tokens: linesOf(tokens, lines),
    tokenRows: linesOf(tokenRows, lines),
    positions: linesOf(positions, lines),
    count,
  });
}

/** Logits of the rows that `launchBeginRows` put there, a token for each, and the rows move on. */
export function launchRowSampling(parts: LaunchParts, first: number, count: number): void {
  const { residual, tokenRows } = slices(parts.buffers);
  const lineBytes = parts.spec.hiddenSize * bytesPerElement(parts.element);
  launchHead(parts, linesOf(residual, { first, count, lineBytes }), count);
  launchSampling(parts, linesOf(tokenRows, { first, count, lineBytes: WORD_BYTES }), count);
}

const WORD_BYTES = 4;

/** Lines [first, first + count) of a buffer's slice. */
function linesOf(
  { buffer, offsetBytes }: Slice,
  { first, count, lineBytes }: { first: number; count: number; lineBytes: number },
): Slice {
  return slice(buffer, offsetBytes + first * lineBytes, count * lineBytes);
}

const wholeBuffers = new WeakMap<RunnerBuffers, Readonly<Record<keyof RunnerBuffers, Slice>>>();

/** Every buffer as one slice, made once. */
export function slices(buffers: RunnerBuffers): Readonly<Record<keyof RunnerBuffers, Slice>> {
  const known = wholeBuffers.get(buffers);
  if (known !== undefined) return known;
  const made = Object.fromEntries(
    Object.entries(buffers).map(([name, buffer]) => [name, slice(buffer)]),
  ) as Readonly<Record<keyof RunnerBuffers, Slice>>;
  wholeBuffers.set(buffers, made);
  return made;
}
