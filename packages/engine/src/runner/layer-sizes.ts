import type { ModelSpec } from '../models/spec.ts';

/** Buffers, and slots in one of them, begin at multiples of this. */
export function align(bytes: number): number {
  return Math.ceil(bytes / 256) * 256;
}

/** Layers with attention: those of a delta net keep no keys and values. */
export function kvLayers({ layerKinds }: ModelSpec): number {
  return layerKinds.filter(({ mixer }) => mixer === 'attention').length;
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
