import {
  type ElementType,
  expectedExperts,
  expertMatrixBytes,
  matrixBytes,
} from '@bridgekeeper/device';
import type { LayerKind } from '../models/spec.ts';
import type { LayerWeights, WeightMatrix } from '../models/weights.ts';
import type { ForwardParts } from '../runner/forward.ts';
import { kvLayers } from '../runner/layer-sizes.ts';
import { pageBytes, stateBytesPerRow } from '../runner/shapes.ts';
import type { DeviceRates } from './rates.ts';

/** The least that work must move and compute. */
export interface Work {
  /**
   * Each weight and each page once. Of experts those that evenly spread tokens are expected to hit.
   */
  readonly bytes: number;
  readonly operations: number;
}

/** What a layer's or a model's weights cost a step of `tokens`. */
function matrixWork(matrix: WeightMatrix, tokens: number, elementBytes: number): Work {
  const { inputs, outputs } = matrix;
  return {
    bytes: matrixBytes(matrix, elementBytes),
    operations: 2 * inputs * outputs * tokens,
  };
}

function sumOf(works: readonly Work[]): Work {
  return {
    bytes: works.reduce((sum, { bytes }) => sum + bytes, 0),
    operations: works.reduce((sum, { operations }) => sum + operations, 0),
  };
}

function layerWork(
  { qkv, output, attentionGate, deltaNet, feedForward: weights }: LayerWeights,
  { feedForward }: LayerKind,
  tokens: number,
  elementBytes: number,
): Work {
  const dense = (matrix: WeightMatrix) => matrixWork(matrix, tokens, elementBytes);
  const beside = [attentionGate, deltaNet?.gates].filter((matrix) => matrix != null);
  const attention = [qkv, output, ...beside].map(dense);
  if (weights.kind === 'dense' || feedForward.kind === 'dense') {
    if (weights.kind !== 'dense') return sumOf(attention);
    return sumOf([...attention, dense(weights.gateUp), dense(weights.down)]);
  }
  const { experts, expertsPerToken } = feedForward;
  const hit = expectedExperts(experts, expertsPerToken, tokens);
  const products = [weights.expertGateUp, weights.expertDown].map((matrix) => ({
    bytes: hit * expertMatrixBytes(matrix, matrix.outputs, elementBytes),
    operations: 2 * matrix.inputs * matrix.outputs * tokens * expertsPerToken,
  }));
  const { router, sharedGateUp, sharedDown } = weights;
  const ofAll = [router, sharedGateUp, sharedDown].filter((matrix) => matrix !== null).map(dense);
  return sumOf([...attention, ...ofAll, ...products]);
}

/** All weights for a step: of the embedding table only lines are read. */
function weightWork(parts: ForwardParts, tokens: number, lines: number): Work {
  const { spec, weights, element } = parts;
  const elementBytes = bytesOf(element);
  const layers = weights.layers.map((layer, i) =>
    layerWork(layer, spec.layerKinds[i]!, tokens, elementBytes),
  );
  return sumOf([...layers, matrixWork(weights.head, lines, elementBytes)]);
}

const bytesOf = (element: ElementType) => (element === 'f32' ? 4 : 2);

/** Of one layer's keys and values for a token. */
function kvBytesOfLayer({ spec, shape, element }: ForwardParts): number {
  return pageBytes(spec, shape, bytesOf(element)) / shape.pageTokens / kvLayers(spec);
}

/** `within` of each layer, which is given the positions that its tokens see; 0 window is all. */
function overLayers({ spec }: ForwardParts, within: (window: number) => number): number {
  const kinds = spec.layerKinds.filter(({ mixer }) => mixer === 'attention');
  return kinds.reduce((sum, { window }) => sum + within(window || Infinity), 0);
}

/** What a row keeps beside KV is read and written. */
function stateBytesOfStep({ spec, element }: ForwardParts): number {
  return 2 * stateBytesPerRow(spec, bytesOf(element));
}

/** A decode step of `batch` rows whose contexts hold `contextTokens` each. */
export function decodeWork(parts: ForwardParts, batch: number, contextTokens: number): Work {
  const { spec } = parts;
  const { bytes, operations } = weightWork(parts, batch, batch);
  const seen = batch * overLayers(parts, (window) => Math.min(contextTokens, window));
  return {
    bytes: bytes + seen * kvBytesOfLayer(parts) + batch * stateBytesOfStep(parts),
    operations: operations + 4 * seen * spec.heads * spec.headDim,
  };
}

/** A chunk of `tokens` of one prompt behind `prefixTokens` of it; one line of logits. */
export function prefillWork(parts: ForwardParts, tokens: number, prefixTokens: number): Work {
  const { spec } = parts;
  const { bytes, operations } = weightWork(parts, tokens, 1);
  const read = overLayers(parts, (window) => Math.min(tokens + prefixTokens, tokens + window));
  const pairs = overLayers(parts, (window) => {
    const all = tokens * prefixTokens + (tokens * (tokens + 1)) / 2;
    return Math.min(all, tokens * window);
  });
  return {
    bytes: bytes + read * kvBytesOfLayer(parts) + stateBytesOfStep(parts),
    operations: operations + 4 * pairs * spec.heads * spec.headDim,
  };
}

/** The time that no implementation of `work` goes below: its bytes' or its operations'. */
export function floorsNs(
  work: Work,
  rates: DeviceRates,
): { bytesNs: number; operationsNs: number } {
  return {
    bytesNs: (work.bytes * 1e9) / rates.copyBytesPerSecond,
    operationsNs: (work.operations * 1e9) / rates.matmulFlopsPerSecond,
  };
}
