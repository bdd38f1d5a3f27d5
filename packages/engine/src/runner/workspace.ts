import { type LinearSizes, linearWorkspace } from '@bridgekeeper/device';
import type { ModelSpec } from '../models/spec.ts';

/** Bytes of workspace that a batch of `tokens` needs, of which at most `lines` get logits. */
export function workspaceBytes(
  spec: ModelSpec,
  tokens: number,
  lines: number,
  elementBytes: number,
): number {
  const { hiddenSize, feedForward, heads, kvHeads, headDim, vocabularySize } = spec;
  const { intermediateSize } = feedForward;
  const format = spec.quantization === null ? 'element' : 'fp8-e4m3';
  const qkvWidth = (heads + 2 * kvHeads) * headDim;
  const first = { count: tokens, inputs: hiddenSize, format, hasNorm: true } as const;
  const second = { count: tokens, outputs: hiddenSize, format, hasNorm: false } as const;
  const sizes: LinearSizes[] = [
    { ...first, outputs: qkvWidth, epilogue: 'store' },
    { ...second, inputs: heads * headDim, epilogue: 'add' },
    { ...first, outputs: 2 * intermediateSize, epilogue: 'gate' },
    { ...second, inputs: intermediateSize, epilogue: 'add' },
    { ...first, count: lines, outputs: vocabularySize, epilogue: 'store', format: 'element' },
  ];
  return Math.max(...sizes.map((size) => linearWorkspace(size, elementBytes).bytes));
}
