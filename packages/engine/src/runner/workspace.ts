import {
  expertDownWorkspace,
  type LinearSizes,
  linearWorkspace,
  routeWorkspace,
} from '@bridgekeeper/device';
import { fp8Of } from '../models/quantization.ts';
import type { FeedForward, ModelSpec } from '../models/spec.ts';

/** Bytes of workspace that a batch of `tokens` needs, of which at most `lines` get logits. */
export function workspaceBytes(
  spec: ModelSpec,
  tokens: number,
  lines: number,
  elementBytes: number,
): number {
  const { hiddenSize, layerKinds, heads, kvHeads, headDim, vocabularySize } = spec;
  const format = fp8Of(spec.quantization) === null ? 'element' : 'fp8-e4m3';
  const qkvWidth = (heads + 2 * kvHeads) * headDim;
  const first = { count: tokens, inputs: hiddenSize, format, hasNorm: true } as const;
  const second = { count: tokens, outputs: hiddenSize, format, hasNorm: false } as const;
  const denseBytes = ({ intermediateSize }: Extract<FeedForward, { kind: 'dense' }>) => [
    linearBytes({ ...first, outputs: 2 * intermediateSize, epilogue: 'gate' }),
    linearBytes({ ...second, inputs: intermediateSize, epilogue: 'add' }),
  ];
  const linearBytes = (sizes: LinearSizes) => linearWorkspace(sizes, elementBytes).bytes;
  const feedForwardBytes = (feedForward: FeedForward) => {
    if (feedForward.kind === 'dense') return denseBytes(feedForward);
    const { experts, expertsPerToken: topK } = feedForward;
    return [
      routeWorkspace({ count: tokens, width: hiddenSize, experts }, elementBytes).bytes,
      expertDownWorkspace({ count: tokens, topK, outputs: hiddenSize }),
    ];
  };
  const kinds = new Set(layerKinds.map(({ feedForward }) => feedForward));
  return Math.max(
    linearBytes({ ...first, outputs: qkvWidth, epilogue: 'store' }),
    linearBytes({ ...second, inputs: heads * headDim, epilogue: 'add' }),
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
