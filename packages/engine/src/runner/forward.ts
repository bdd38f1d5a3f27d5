import {
  type ElementType,
  type OpArgs,
  type Slice,
  type Stream,
  slice,
  type Vocabulary,
} from '@bridgekeeper/device';
import type { ModelSpec } from '../models/spec.ts';
import type { WeightMatrix, Weights } from '../models/weights.ts';
import { pagesPerRow, type RunnerBuffers, type RunnerShape } from './shapes.ts';

/** Everything a forward pass needs that stays the same from step to step. */
export interface ForwardParts {
  readonly spec: ModelSpec;
  readonly shape: RunnerShape;
  readonly weights: Weights;
  readonly buffers: RunnerBuffers;
  readonly stream: Stream;
  /** What grammars step through; null: rows have none. */
  readonly vocabulary: Vocabulary | null;
  /** How the device stores activations. */
  readonly element: ElementType;
}

type Phase = OpArgs['attention']['phase'];

/**
 * The transformer over a flat batch: tokens, rows and positions are in their buffers; the hidden
 * states are left in `residual` [count, hidden]. Every architecture we run is this, with or without
 * biases and head norms.
 */
export function launchForward(parts: ForwardParts, count: number, phase: Phase): void {
  const { spec, weights, stream } = parts;
  const { tokens, residual } = slices(parts.buffers);
  const { hiddenSize: width, vocabularySize: vocab } = spec;
  stream.launch('embed', { table: weights.embed, tokens, out: residual, count, width, vocab });
  for (let layer = 0; layer < spec.layers; layer++) {
    launchAttention(parts, layer, count, phase);
    launchFeedForward(parts, layer, count);
  }
}

function launchAttention(parts: ForwardParts, layer: number, count: number, phase: Phase): void {
  const { spec, shape, stream } = parts;
  const { heads, kvHeads, headDim, layers } = spec;
  const weights = parts.weights.layers[layer]!;
  const buffers = slices(parts.buffers);
  const { residual, qkv, attended, kv, pageTable, tokenRows, positions } = buffers;
  const { inputNorm: norm, qkvBias, outputBias } = weights;
  launchLinear(parts, count, { ...weights.qkv, input: residual, norm, bias: qkvBias, out: qkv });
  stream.launch('attention', {
    qkv,
    queryNorm: weights.queryNorm,
    keyNorm: weights.keyNorm,
    epsilon: spec.rmsNormEpsilon,
    rope: buffers.rope,
    kv,
    kvFormat: shape.kvFormat,
    pageTable,
    tokenRows,
    positions,
    layer,
    layers,
    kvHeads,
    headDim,
    pageTokens: shape.pageTokens,
    pagesPerRow: pagesPerRow(shape),
    out: attended,
    count,
    heads,
    scale: 1 / Math.sqrt(headDim),
    window: spec.slidingWindow,
    phase,
  });
  launchLinear(parts, count, {
    ...weights.output,
    input: attended,
    bias: outputBias,
    epilogue: 'add',
    out: residual,
  });
}

function launchFeedForward(parts: ForwardParts, layer: number, count: number): void {
  const { feedForward, postNorm } = parts.weights.layers[layer]!;
  const { residual, activated } = slices(parts.buffers);
  switch (feedForward.kind) {
    case 'dense': {
      const { gateUp, gateUpBias, down, downBias } = feedForward;
      launchLinear(parts, count, {
        ...gateUp,
        input: residual,
        norm: postNorm,
        bias: gateUpBias,
        epilogue: 'gate',
        out: activated,
      });
      launchLinear(parts, count, {
        ...down,
        input: activated,
        bias: downBias,
        epilogue: 'add',
        out: residual,
      });
    }
  }
}

/** Logits (f32) of `count` lines of `hidden` into the logits buffer. */
export function launchHead(parts: ForwardParts, hidden: Slice, count: number): void {
  const { head, finalNorm: norm } = parts.weights;
  const out = slice(parts.buffers.logits);
  launchLinear(parts, count, { ...head, input: hidden, norm, out, outType: 'f32' });
}

type Linear = WeightMatrix &
  Pick<OpArgs['linear'], 'input' | 'out'> &
  Partial<Pick<OpArgs['linear'], 'norm' | 'bias' | 'epilogue' | 'outType'>>;

function launchLinear(parts: ForwardParts, count: number, linear: Linear): void {
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
  const { rows, decodeRows, tokens, tokenRows, positions, residual } = slices(parts.buffers);
  parts.stream.launch('begin-decode', { rows, decodeRows, tokens, tokenRows, positions, count });
  launchForward(parts, count, 'decode');
  launchHead(parts, residual, count);
  launchSampling(parts, tokenRows, count);
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
