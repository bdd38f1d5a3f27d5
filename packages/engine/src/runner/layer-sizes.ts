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

/** The same of all layers. */
export function kvElementsOf({ layerKinds }: ModelSpec): number {
  return layerKinds.reduce((sum, kind) => sum + kvElements(kind), 0);
}

/**
 * Layers whose KV is in the same pages. All layers are in one pool, of whole contexts; or those
 * that see a window are in one of their own, whose pages are given back behind it.
 */
export type KvPool = 'context' | 'window';

/** Where a layer's keys and values are. */
export interface KvPlace {
  readonly pool: KvPool;
  /** Elements of a token in its page before those of the layer. */
  readonly first: number;
}

/** How layers are divided between pools: what a token has in each, and each layer's place. */
export interface KvPools {
  readonly elements: Readonly<Record<KvPool, number>>;
  readonly places: readonly KvPlace[];
}

/** `isDivided` false: all layers are in one pool. */
export function kvPools({ layerKinds }: ModelSpec, isDivided: boolean): KvPools {
  const windowed = isDivided ? windowedLayers(layerKinds) : new Set<number>();
  const elements = { context: 0, window: 0 };
  const own = layerKinds.map((kind, layer): KvPlace => {
    const pool = windowed.has(layer) ? 'window' : 'context';
    const first = elements[pool];
    elements[pool] += kvElements(kind);
    return { pool, first };
  });
  return { elements, places: layerKinds.map(({ kvLayer }) => own[kvLayer]!) };
}

/** Layers whose keys and values are read within a window alone. */
function windowedLayers(layerKinds: readonly LayerKind[]): Set<number> {
  const windowed = new Set<number>();
  for (const { kvLayer, window } of layerKinds) if (window > 0) windowed.add(kvLayer);
  for (const { kvLayer, window } of layerKinds) if (window === 0) windowed.delete(kvLayer);
  return windowed;
}

/**
 * Tokens that windowed layers look back, the own one included: the longest window, where they have
 * several. 0: no layer has one; or all have, and there would be no pages of contexts to go by.
 */
export function windowTokensOf({ layerKinds }: ModelSpec): number {
  const windowed = windowedLayers(layerKinds);
  const isContext = (kind: LayerKind, layer: number) =>
    !windowed.has(layer) && kvElements(kind) > 0;
  if (!layerKinds.some(isContext)) return 0;
  const readers = layerKinds.filter(({ kvLayer }) => windowed.has(kvLayer));
  return Math.max(0, ...readers.map(({ window }) => window));
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
