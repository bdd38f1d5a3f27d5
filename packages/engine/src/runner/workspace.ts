import { type LinearSizes, linearWorkspace } from '@bridgekeeper/device';
import type { ModelSpec } from '../models/spec.ts';

/** Bytes of workspace that a batch of `tokens` needs, of which at most `lines` get logits. */
export function workspaceBytes(
  spec: ModelSpec,
  tokens: number,
  lines: number,
  elementBytes: number,
): number {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, vocabularySize } = spec;
  const format = spec.quantization === null ? 'element' : 'fp8-e4m3';
  const sizes: LinearSizes[] = [
    {
      ...{ count: tokens, inputs: hiddenSize, outputs: (heads + 2 * kvHeads) * headDim },
      ...{ epilogue: 'store', format, hasNorm: true },
    },
    {
      ...{ count: tokens, inputs: heads * headDim, outputs: hiddenSize },
      ...{ epilogue: 'add', format, hasNorm: false },
    },
    {
      ...{ count: tokens, inputs: hiddenSize, outputs: 2 * intermediateSize },
      ...{ epilogue: 'gate', format, hasNorm: true },
    },
    {
      ...{ count: tokens, inputs: intermediateSize, outputs: hiddenSize },
      ...{ epilogue: 'add', format, hasNorm: false },
    },
    {
      ...{ count: lines, inputs: hiddenSize, outputs: vocabularySize },
      ...{ epilogue: 'store', format: 'element', hasNorm: true },
    },
  ];
  return Math.max(...sizes.map((size) => linearWorkspace(size, elementBytes).bytes));
}
