import {
  busiestAssignments,
  busiestExperts,
  type ElementType,
  expertMatrixBytes,
  matrixBytes,
} from '@bridgekeeper/device';
import { heldExperts, keyValueElements, type LayerKind, pairOperations } from '../models/spec.ts';
import type { LayerWeights, WeightMatrix } from '../models/weights.ts';
import type { ForwardParts } from '../runner/forward.ts';
import { stateBytesPerRow } from '../runner/shapes.ts';
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
  { qkv, output, attentionGate, deltaNet, latent, feedForward: weights, ...more }: LayerWeights,
  { feedForward }: LayerKind,
  tokens: number,
  elementBytes: number,
): Work {
  const dense = (matrix: WeightMatrix) => matrixWork(matrix, tokens, elementBytes);
  const { perLayerGate, perLayerBack } = more;
  const ofLatent = [latent?.queryDown, latent?.latentDown, latent?.latentUp];
  const others = [attentionGate, deltaNet?.gates, ...ofLatent, perLayerGate, perLayerBack];
  const beside = others.filter((matrix) => matrix != null);
  const attention = [qkv, output, ...beside].map(dense);
  if (weights.kind === 'dense' || feedForward.kind === 'dense') {
    if (weights.kind !== 'dense') return sumOf(attention);
    return sumOf([...attention, dense(weights.gateUp), dense(weights.down)]);
  }
  const { experts, expertsPerToken } = feedForward;
  // Where ranks have some of the experts whole, the step is that of the one with most to do.
  const ranks = experts / heldExperts(feedForward);
  const hit = busiestExperts(experts, expertsPerToken, tokens, ranks);
  const chosen = busiestAssignments(experts, expertsPerToken, tokens, ranks);
  const products = [weights.expertGateUp, weights.expertDown].map((matrix) => ({
    bytes: hit * expertMatrixBytes(matrix, matrix.outputs, elementBytes),
    operations: 2 * matrix.inputs * matrix.outputs * chosen,
  }));
  const { router, sharedGateUp, sharedDown } = weights;
  const { gateUp, down } = weights;
  const ofTokens = [router, sharedGateUp, sharedDown, gateUp, down];
  const ofAll = ofTokens.filter((matrix) => matrix !== null).map(dense);
  return sumOf([...attention, ...ofAll, ...products]);
}

/** All weights for a step: of the embedding table only lines are read. */
function weightWork(parts: ForwardParts, tokens: number, lines: number): Work {
  const { spec, weights, element } = parts;
  const elementBytes = bytesOf(element);
  const layers = weights.layers.map((layer, i) =>
    layerWork(layer, spec.layerKinds[i]!, tokens, elementBytes),
  );
  const { perLayer, head } = weights;
  const tables = perLayer === null ? [] : [matrixWork(perLayer.projection, tokens, elementBytes)];
  return sumOf([...layers, ...tables, matrixWork(head, lines, elementBytes)]);
}

const bytesOf = (element: ElementType) => (element === 'f32' ? 4 : 2);

/**
 * Attention of each layer, given how many positions it reads and how many pairs of a query and a
 * key it has, by its window; 0 window is all. Layers that share keys and values each read them.
 */
function attentionWork(
  { spec, shape, element }: ForwardParts,
  read: (window: number) => number,
  pairs: (window: number) => number,
): Work {
  const kvBytes = shape.kvFormat === 'element' ? bytesOf(element) : 1;
  return sumOf(
    spec.layerKinds.map((kind) => ({
      bytes: read(kind.window || Infinity) * keyValueElements(kind) * kvBytes,
      operations: pairs(kind.window || Infinity) * pairOperations(spec, kind),
    })),
  );
}

/** What a row keeps beside KV is read and written. */
function stateBytesOfStep({ spec, element }: ForwardParts): number {
  return 2 * stateBytesPerRow(spec, bytesOf(element));
}

/** A decode step of `batch` rows whose contexts hold `contextTokens` each. */
export function decodeWork(parts: ForwardParts, batch: number, contextTokens: number): Work {
  const seen = (window: number) => batch * Math.min(contextTokens, window);
  const state = { bytes: batch * stateBytesOfStep(parts), operations: 0 };
  return sumOf([weightWork(parts, batch, batch), attentionWork(parts, seen, seen), state]);
}

/** A chunk of `tokens` of one prompt behind `prefixTokens` of it; one line of logits. */
export function prefillWork(parts: ForwardParts, tokens: number, prefixTokens: number): Work {
  const read = (window: number) => Math.min(tokens + prefixTokens, tokens + window);
  const pairs = (window: number) => {
    const all = tokens * prefixTokens + (tokens * (tokens + 1)) / 2;
    return Math.min(all, tokens * window);
  };
  const state = { bytes: stateBytesOfStep(parts), operations: 0 };
  return sumOf([weightWork(parts, tokens, 1), attentionWork(parts, read, pairs), state]);
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
