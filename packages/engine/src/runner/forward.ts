import { type ElementType, type Slice, type Stream, slice } from '@bridgekeeper/device';
import type { ModelSpec } from '../models/spec.ts';
import type { Weights } from '../models/weights.ts';
import { pagesPerRow, type RunnerBuffers, type RunnerShape } from './shapes.ts';

/** Everything a forward pass needs that stays the same from step to step. */
export interface ForwardParts {
  readonly spec: ModelSpec;
  readonly shape: RunnerShape;
  readonly weights: Weights;
  readonly buffers: RunnerBuffers;
  readonly stream: Stream;
  /** How the device stores activations. */
  readonly element: ElementType;
}

/**
 * The transformer over a flat batch: tokens, rows and positions are in their buffers; the final
 * hidden states are left in `normed` [count, hidden]. Every architecture we run is this, with or
 * without biases and head norms.
 */
export function launchForward(
  parts: ForwardParts,
  count: number,
  phase: 'decode' | 'prefill',
): void {
  const { spec, weights, stream } = parts;
  const { tokens, residual, normed } = slices(parts.buffers);
  const width = spec.hiddenSize;
  const epsilon = spec.rmsNormEpsilon;
  const table = weights.embed;
  stream.launch('embed', {
    table,
    tokens,
    out: residual,
    count,
    width,
    vocab: spec.vocabularySize,
  });
  for (let layer = 0; layer < spec.layers; layer++) {
    const { inputNorm, postNorm } = weights.layers[layer]!;
    if (layer === 0) {
      const input = residual;
      stream.launch('rms-norm', { input, weight: inputNorm, out: normed, count, width, epsilon });
    } else {
      launchAddNorm(parts, inputNorm, count);
    }
    launchAttention(parts, layer, count, phase);
    launchAddNorm(parts, postNorm, count);
    launchFeedForward(parts, layer, count);
  }
  launchAddNorm(parts, weights.finalNorm, count);
}

/** Adds the last projection to the residual stream and leaves its norm in `normed`. */
function launchAddNorm(parts: ForwardParts, weight: Slice, count: number): void {
  const { residual, projected: input, normed: out } = slices(parts.buffers);
  const { hiddenSize: width, rmsNormEpsilon: epsilon } = parts.spec;
  parts.stream.launch('add-rms-norm', { residual, input, weight, out, count, width, epsilon });
}

function launchAttention(
  parts: ForwardParts,
  layer: number,
  count: number,
  phase: 'decode' | 'prefill',
): void {
  const { spec, shape, stream } = parts;
  const { heads, kvHeads, headDim, layers } = spec;
  const weights = parts.weights.layers[layer]!;
  const buffers = slices(parts.buffers);
  const { normed, qkv, attended, projected, kv, pageTable, tokenRows, positions } = buffers;
  const { pageTokens } = shape;
  const rowPages = pagesPerRow(shape);
  const qkvWidth = (heads + 2 * kvHeads) * headDim;
  launchLinear(parts, normed, weights.qkv, weights.qkvBias, qkv, count, spec.hiddenSize, qkvWidth);
  stream.launch('rope-write-kv', {
    kv,
    pageTable,
    tokenRows,
    positions,
    layer,
    layers,
    kvHeads,
    headDim,
    pageTokens,
    pagesPerRow: rowPages,
    count,
    heads,
    qkv,
    queryNorm: weights.queryNorm,
    keyNorm: weights.keyNorm,
    epsilon: spec.rmsNormEpsilon,
    rope: buffers.rope,
  });
  stream.launch('attention', {
    kv,
    pageTable,
    tokenRows,
    positions,
    layer,
    layers,
    kvHeads,
    headDim,
    pageTokens,
    pagesPerRow: rowPages,
    count,
    heads,
    qkv,
    out: attended,
    scale: 1 / Math.sqrt(headDim),
    window: spec.slidingWindow,
    phase,
  });
  const { output, outputBias } = weights;
  const queryWidth = heads * headDim;
  launchLinear(parts, attended, output, outputBias, projected, count, queryWidth, spec.hiddenSize);
}

function launchFeedForward(parts: ForwardParts, layer: number, count: number): void {
  const { hiddenSize, intermediateSize: width } = parts.spec;
  const { gateUp: up, gateUpBias, down, downBias } = parts.weights.layers[layer]!;
  const { normed, gateUp, activated, projected } = slices(parts.buffers);
  launchLinear(parts, normed, up, gateUpBias, gateUp, count, hiddenSize, 2 * width);
  parts.stream.launch('silu-mul', { input: gateUp, out: activated, count, width });
  launchLinear(parts, activated, down, downBias, projected, count, width, hiddenSize);
}

function launchLinear(
  parts: ForwardParts,
  input: Slice,
  weight: Slice,
  bias: Slice | null,
  out: Slice,
  count: number,
  inputs: number,
  outputs: number,
): void {
  const outType = parts.element;
  parts.stream.launch('matmul', { input, weight, bias, out, count, inputs, outputs, outType });
}

/** Logits (f32) of `count` lines of `hidden` into the logits buffer. */
export function launchHead(parts: ForwardParts, hidden: Slice, count: number): void {
  parts.stream.launch('matmul', {
    input: hidden,
    weight: parts.weights.head,
    bias: null,
    out: slice(parts.buffers.logits),
    count,
    inputs: parts.spec.hiddenSize,
    outputs: parts.spec.vocabularySize,
    outType: 'f32',
  });
}

/** Samples one token for each of `count` logits lines and moves their rows on by one step. */
export function launchSampling(parts: ForwardParts, lineRows: Slice, count: number): void {
  const { shape, stream } = parts;
  const { rows, control, counts, sampled, logits, bias, logprobs, results } = slices(parts.buffers);
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
  stream.launch('sample', { ...lines, logits, bias, logprobs });
  stream.launch('advance', { ...lines, results });
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
