import { type ElementType, matrixBytes } from '@bridgekeeper/device';
import { layerMatrices, type WeightMatrix, type Weights } from '../models/weights.ts';
import type { ForwardParts } from '../runner/forward.ts';
import { pageBytes } from '../runner/shapes.ts';
import type { DeviceRates } from './rates.ts';

/** The least that work must move and compute. */
export interface Work {
  /** Each weight and each page once. */
  readonly bytes: number;
  readonly operations: number;
}

function matrices({ layers, head }: Weights): WeightMatrix[] {
  return [...layers.flatMap(layerMatrices), head];
}

/** Bytes of the weights that a step reads: all but the embedding table, of which it reads lines. */
function weightBytesPerStep(weights: Weights, element: ElementType): number {
  const elementBytes = element === 'f32' ? 4 : 2;
  return matrices(weights).reduce((sum, matrix) => sum + matrixBytes(matrix, elementBytes), 0);
}

/** A decode step of `batch` rows whose contexts hold `contextTokens` each. */
export function decodeWork(parts: ForwardParts, batch: number, contextTokens: number): Work {
  const { spec, shape, weights, element } = parts;
  const elementBytes = element === 'f32' ? 4 : 2;
  const kvBytesPerToken = pageBytes(spec, shape, elementBytes) / shape.pageTokens;
  const products = matrices(weights).reduce(
    (sum, { inputs, outputs }) => sum + inputs * outputs,
    0,
  );
  const attended = batch * contextTokens * spec.layers * spec.heads * spec.headDim;
  return {
    bytes: weightBytesPerStep(weights, element) + batch * contextTokens * kvBytesPerToken,
    operations: 2 * products * batch + 4 * attended,
  };
}

/** A chunk of `tokens` of one prompt behind `prefixTokens` of it; one line of logits. */
export function prefillWork(parts: ForwardParts, tokens: number, prefixTokens: number): Work {
  const { spec, weights, shape, element } = parts;
  const elementBytes = element === 'f32' ? 4 : 2;
  const kvBytesPerToken = pageBytes(spec, shape, elementBytes) / shape.pageTokens;
  const { head } = weights;
  const products = matrices(weights).reduce(
    (sum, { inputs, outputs }) => sum + inputs * outputs,
    0,
  );
  const pairs = tokens * prefixTokens + (tokens * (tokens + 1)) / 2;
  const headProducts = head.inputs * head.outputs;
  return {
    bytes: weightBytesPerStep(weights, element) + (tokens + prefixTokens) * kvBytesPerToken,
    operations:
      2 * (products - headProducts) * tokens +
      2 * headProducts +
      4 * pairs * spec.layers * spec.heads * spec.headDim,
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
