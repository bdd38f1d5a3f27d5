import {
  expertDownWorkspace,
  type LinearSizes,
  linearWorkspace,
  routeWorkspace,
} from '@bridgekeeper/device';
import { linearsOf } from '../models/quantization.ts';
import type { FeedForward, ModelSpec } from '../models/spec.ts';
import { attentionWidths, deltaNetSizes, latentSizes } from './layer-sizes.ts';

/** Bytes of workspace that a batch of `tokens` needs, of which at most `lines` get logits. */
export function workspaceBytes(
  spec: ModelSpec,
  tokens: number,
  lines: number,
  elementBytes: number,
): number {
  const { hiddenSize, layerKinds, vocabularySize } = spec;
  const widths = attentionWidths(spec);
  const linears = linearsOf(spec.quantization);
  const packed = linears?.method === 'int4' ? 'int4' : 'fp8-e4m3';
  const format = linears === null ? 'element' : packed;
  const net = deltaNetSizes(spec, elementBytes);
  const latent = latentSizes(spec);
  const queryRank = spec.latent?.queryRank ?? null;
  // Queries that have a vector of their own are projected from that.
  const ofHidden = queryRank ?? latent?.projected ?? 0;
  const qkvWidth = Math.max(widths.qkv, net?.width ?? 0, ofHidden, latent?.line ?? 0);
  const first = { count: tokens, inputs: hiddenSize, format, hasNorm: true } as const;
  const second = { count: tokens, outputs: hiddenSize, format, hasNorm: false } as const;
  const denseBytes = ({ intermediateSize }: { readonly intermediateSize: number }) => [
    linearBytes({ ...first, outputs: 2 * intermediateSize, epilogue: 'gate' }),
    linearBytes({ ...second, inputs: intermediateSize, epilogue: 'add' }),
  ];
  const linearBytes = (sizes: LinearSizes) => linearWorkspace(sizes, elementBytes).bytes;
  const feedForwardBytes = (feedForward: FeedForward) => {
    if (feedForward.kind === 'dense') return denseBytes(feedForward);
    const { experts: allExperts, expertsPerToken: topK, shared, beside } = feedForward;
    return [
      ...[shared, beside].flatMap((dense) => (dense === null ? [] : denseBytes(dense))),
      routeWorkspace({ count: tokens, width: hiddenSize, allExperts }, elementBytes).bytes,
      expertDownWorkspace({ count: tokens, topK, outputs: hiddenSize }),
    ];
  };
  const kinds = new Set(layerKinds.map(({ feedForward }) => feedForward));
  const element = { format: 'element', hasNorm: false } as const;
  const perLayerBytes = ({ width }: { readonly width: number }) => [
    linearBytes({ ...first, ...element, outputs: spec.layers * width, epilogue: 'store' }),
    linearBytes({ ...first, hasNorm: false, outputs: width, epilogue: 'store' }),
    linearBytes({ ...second, inputs: width, epilogue: 'store' }),
  ];
  return Math.max(
    ...(spec.perLayer === null ? [] : perLayerBytes(spec.perLayer)),
    linearBytes({ ...first, outputs: qkvWidth, epilogue: 'store' }),
    linearBytes({
      ...second,
      inputs: Math.max(widths.queries, net?.valueWidth ?? 0, latent?.values ?? 0),
      epilogue: 'add',
    }),
    ...(queryRank === null
      ? []
      : [
          linearBytes({
            ...first,
            inputs: queryRank,
            outputs: latent!.projected,
            epilogue: 'store',
          }),
        ]),
    ...[...kinds].flatMap(feedForwardBytes),
    linearBytes({
      ...first,
      count: lines,
      outputs: vocabularySize,
      epilogue: 'store',
      format: 'element',
    }),
  );
}
