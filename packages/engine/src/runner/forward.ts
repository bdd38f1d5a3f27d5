import {
  bytesPerElement,
  type ElementType,
  type OpArgs,
  type Slice,
  type Stream,
  slice,
  type Vocabulary,
} from '@bridgekeeper/device';
import type { ExpertsFeedForward, ModelSpec } from '../models/spec.ts';
import type {
  DenseWeights,
  ExpertsWeights,
  LayerWeights,
  WeightMatrix,
  Weights,
} from '../models/weights.ts';
import { pagesPerRow, type RunnerBuffers, type RunnerShape } from './shapes.ts';

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
 * Every architecture we run is this, with or without biases, head norms and sinks, each layer of
 * its kind.
 */
export function launchForward(
  parts: ForwardParts,
  count: number,
  batch: readonly BatchPart[],
): void {
  for (const launch of launchesOf(parts, count, batch)) launch(parts.stream);
}

type Launch = (stream: Stream) => void;

/** Batches of so many shapes are kept; prompts come in few. */
const KEPT_SHAPES = 64;
const keptLaunches = new WeakMap<
  Weights,
  { readonly buffers: RunnerBuffers; readonly byShape: Map<string, readonly Launch[]> }
>();

/**
 * The launches of a batch. They are the same for every batch of a shape as long as weights and
 * buffers are where they are, and making their arguments takes the host longer than launching.
 */
function launchesOf(
  parts: ForwardParts,
  count: number,
  batch: readonly BatchPart[],
): readonly Launch[] {
  const { weights, buffers } = parts;
  let kept = keptLaunches.get(weights);
  if (kept?.buffers !== buffers) {
    kept = { buffers, byShape: new Map() };
    keptLaunches.set(weights, kept);
  }
  const places = batch.map(({ first, count, phase }) => `${first}+${count} ${phase}`);
  const shape = `${count}: ${places.join()}`;
  const known = kept.byShape.get(shape);
  if (known !== undefined) return known;
  const launches: Launch[] = [];
  const recorder: Pick<Stream, 'launch'> = {
    launch: (name, args) => {
      launches.push((stream) => stream.launch(name, args));
    },
  };
  recordForward({ ...parts, stream: recorder }, count, batch);
  if (kept.byShape.size === KEPT_SHAPES) kept.byShape.clear();
  kept.byShape.set(shape, launches);
  return launches;
}

/** What operations are launched on. */
type LaunchParts = Omit<ForwardParts, 'stream'> & { readonly stream: Pick<Stream, 'launch'> };

function recordForward(parts: LaunchParts, count: number, batch: readonly BatchPart[]): void {
  const { spec, weights, stream } = parts;
  const { tokens, residual } = slices(parts.buffers);
  const { hiddenSize: width, vocabularySize: vocab } = spec;
  stream.launch('embed', { table: weights.embed, tokens, out: residual, count, width, vocab });
  for (let layer = 0; layer < spec.layers; layer++) {
    launchAttention(parts, layer, count, batch);
    launchFeedForward(parts, layer, count);
  }
}

function launchAttention(
  parts: LaunchParts,
  layer: number,
  count: number,
  batch: readonly BatchPart[],
): void {
  const { spec, shape, stream } = parts;
  const { heads, kvHeads, headDim, layers } = spec;
  const elementBytes = bytesPerElement(parts.element);
  const weights = parts.weights.layers[layer]!;
  const buffers = slices(parts.buffers);
  const { residual, qkv, attended, kv, pageTable, tokenRows, positions } = buffers;
  const { inputNorm: norm, qkvBias, outputBias } = weights;
  launchLinear(parts, count, { ...weights.qkv, input: residual, norm, bias: qkvBias, out: qkv });
  for (const { first, count, phase } of batch) {
    const lines = (buffer: Slice, width: number) =>
      linesOf(buffer, { first, count, lineBytes: width * elementBytes });
    stream.launch('attention', {
      qkv: lines(qkv, (heads + 2 * kvHeads) * headDim),
      sinks: weights.sinks,
      queryNorm: weights.queryNorm,
      keyNorm: weights.keyNorm,
      epsilon: spec.rmsNormEpsilon,
      rope: spec.layerKinds[layer]!.rotates ? buffers.rope : buffers.resting,
      kv,
      kvFormat: shape.kvFormat,
      pageTable,
      tokenRows: linesOf(tokenRows, { first, count, lineBytes: WORD_BYTES }),
      positions: linesOf(positions, { first, count, lineBytes: WORD_BYTES }),
      layer,
      layers,
      kvHeads,
      headDim,
      pageTokens: shape.pageTokens,
      pagesPerRow: pagesPerRow(shape),
      out: lines(attended, heads * headDim),
      count,
      heads,
      scale: 1 / Math.sqrt(headDim),
      window: spec.layerKinds[layer]!.window,
      phase,
    });
  }
  launchBack(parts, count, { ...weights.output, input: attended, bias: outputBias });
}

function launchFeedForward(parts: LaunchParts, layer: number, count: number): void {
  const weights = parts.weights.layers[layer]!;
  const { feedForward } = parts.spec.layerKinds[layer]!;
  if (feedForward.kind === 'experts') {
    launchExperts(parts, weights, feedForward, count);
  } else {
    launchDense(parts, weights, count);
  }
}

function launchDense(parts: LaunchParts, { feedForward, postNorm }: LayerWeights, count: number) {
  const { residual, activated } = slices(parts.buffers);
  const { gateUp, gateUpBias, down, downBias } = feedForward as DenseWeights;
  launchLinear(parts, count, {
    ...gateUp,
    input: residual,
    norm: postNorm,
    bias: gateUpBias,
    epilogue: 'gate',
    out: activated,
  });
  launchBack(parts, count, { ...down, input: activated, bias: downBias });
}

/** A product back into the residual stream: of one rank, a part of the sum that all get. */
function launchBack(parts: LaunchParts, count: number, linear: Omit<Linear, 'out'>): void {
  const out = backOf(parts);
  launchLinear(parts, count, { ...linear, ...out });
  launchSum(parts, count);
}

/** Where what goes back into the residual stream is written. */
function backOf({ buffers, shape }: LaunchParts) {
  const { residual, partial } = slices(buffers);
  return shape.ranks === 1
    ? ({ epilogue: 'add', out: residual } as const)
    : ({ epilogue: 'store', out: partial } as const);
}

/** Adds what the ranks have each computed a part of. */
function launchSum({ buffers, shape, spec, stream }: LaunchParts, count: number): void {
  if (shape.ranks === 1) return;
  const { residual: out, partial } = slices(buffers);
  const sizes = { count, width: spec.hiddenSize };
  stream.launch('all-reduce', { inputs: [partial], out, epilogue: 'add', ...sizes });
}

/** Who goes where is decided on the device and stays there; no shape depends on it. */
function launchExperts(
  parts: LaunchParts,
  { feedForward, postNorm }: LayerWeights,
  { experts, expertsPerToken: topK, softmaxOver, gate, stored }: ExpertsFeedForward,
  count: number,
): void {
  const { spec, buffers, stream } = parts;
  const { router, expertGateUp, expertDown, ...biases } = feedForward as ExpertsWeights;
  const { residual, activated, workspace, tokenRows, normed, ...routing } = slices(buffers);
  const { chosen, expertStarts: starts, expertOrder: order, expertWeights: weights } = routing;
  const groups = { chosen, starts, order, count, experts, topK };
  stream.launch('route', {
    ...groups,
    input: residual,
    norm: postNorm,
    epsilon: spec.rmsNormEpsilon,
    normed,
    router: router.weight,
    routerBias: biases.routerBias,
    softmaxOver,
    tokenRows,
    weights,
    width: spec.hiddenSize,
    workspace,
  });
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
    ...backOf(parts),
    workspace,
  });
  launchSum(parts, count);
}

/** Logits (f32) of `count` lines of `hidden` into the logits buffer. */
export function launchHead(parts: ForwardParts, hidden: Slice, count: number): void {
  const { head, finalNorm: norm } = parts.weights;
  const { logits, logitsPart } = slices(parts.buffers);
  const isDivided = head.outputs < parts.spec.vocabularySize;
  const out = isDivided ? logitsPart : logits;
  launchLinear(parts, count, { ...head, input: hidden, norm, out, outType: 'f32' });
  if (!isDivided) return;
  const sizes = { count, width: head.outputs };
  parts.stream.launch('all-gather', { inputs: [logitsPart], out: logits, ...sizes });
}

type Linear = WeightMatrix &
  Pick<OpArgs['linear'], 'input' | 'out'> &
  Partial<Pick<OpArgs['linear'], 'norm' | 'bias' | 'epilogue' | 'outType'>>;

function launchLinear(parts: LaunchParts, count: number, linear: Linear): void {
  parts.stream.launch('linear', {
    norm: null,
    epsilon: parts.spec.rmsNormEpsilon,
    bias: null,
    epilogue: 'store',
    outType: parts.element,
    workspace: slice(parts.buffers.workspace),
    count,
    ...linear,
  });
}

/** Samples one token for each of `count` logits lines and moves their rows on by one step. */
export function launchSampling(parts: ForwardParts, lineRows: Slice, count: number): void {
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
    ringLines: shape.maxRows,
  };
  if (parts.vocabulary !== null) {
    const { vocab } = lines;
    stream.launch('grammar-mask', { ...grammars, rows, lineRows, masks, count, vocab });
  }
  stream.launch('sample', { ...lines, logits, bias, masks, logprobs });
  stream.launch('advance', { ...lines, ...grammars, results });
}

/** One step of `count` lines of the decode batch that the device holds. */
export function launchDecodeStep(parts: ForwardParts, count: number): void {
  launchBeginRows(parts, 0, count);
  launchForward(parts, count, [{ first: 0, count, phase: 'decode' }]);
  launchRowSampling(parts, 0, count);
}

/** The tokens of the first `count` decode rows become lines of the batch, from `first` on. */
export function launchBeginRows(parts: ForwardParts, first: number, count: number): void {
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
export function launchRowSampling(parts: ForwardParts, first: number, count: number): void {
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
