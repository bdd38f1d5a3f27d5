import { qkvWidth } from '@bridgekeeper/device';
import { keyValueElements, type LayerKind, type ModelSpec } from '../models/spec.ts';

/** Buffers, and slots in one of them, begin at multiples of this. */
export function align(bytes: number): number {
  return Math.ceil(bytes / 256) * 256;
}

/** Of keys and values that a layer has itself, for a token. */
function kvElements(kind: LayerKind): number {
  return kind.lineKv === 'none' ? 0 : keyValueElements(kind);
}

/** The same of layers [0, end); of all where there is no end. */
export function kvElementsOf({ layerKinds }: ModelSpec, end = layerKinds.length): number {
  return layerKinds.slice(0, end).reduce((sum, kind) => sum + kvElements(kind), 0);
}

/** Layers with a delta net, which keep no keys and values. */
export function netLayers({ layerKinds }: ModelSpec): number {
  return layerKinds.filter(({ mixer }) => mixer === 'delta-net').length;
}

/** What the widest attention has of a token: projected, and of queries alone. */
export function attentionWidths({ heads, layerKinds }: ModelSpec) {
  const kinds = layerKinds.filter(({ mixer }) => mixer === 'attention');
  return {
    qkv: Math.max(0, ...kinds.map((kind) => qkvWidth({ heads, ...kind }))),
    queries: Math.max(0, ...kinds.map(({ headDim }) => heads * headDim)),
  };
}

/** What latent attention has of a token. */
export function latentSizes({ heads, latent }: ModelSpec) {
  if (latent === null) return null;
  const { queryRank, kvRank, rotaryDim, keyDim, valueDim } = latent;
  return {
    queryRank: queryRank ?? 0,
    /** The vector that is kept, and what all heads make of it. */
    line: kvRank + rotaryDim,
    projected: heads * (keyDim + rotaryDim),
    queries: heads * (kvRank + rotaryDim),
    attended: heads * kvRank,
    values: heads * valueDim,
  };
}

/** Of inputs that a causal convolution remembers, and f32. */
const CONV_KEPT = 3;
const F32_BYTES = 4;

/** What a layer with a delta net has of a token, and keeps of a row. */
export function deltaNetSizes({ deltaNet }: ModelSpec, elementBytes: number) {
  if (deltaNet === null) return null;
  const { keyHeads, valueHeads, keyDim, valueDim } = deltaNet;
  const valueWidth = valueHeads * valueDim;
  const channels = 2 * keyHeads * keyDim + valueWidth;
  return {
    channels,
    valueWidth,
    /** q, k, v and z. */
    width: channels + valueWidth,
    convBytes: align(CONV_KEPT * channels * elementBytes),
    ruleBytes: align(valueHeads * keyDim * valueDim * F32_BYTES),
  };
}
