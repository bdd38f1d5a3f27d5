import type { StepPlan } from '../scheduler/plan.ts';
import type { RunnerShape } from './shapes.ts';

/**
 * Lines of short prompts, for each number of which there is a graph: operation by operation the
 * host takes longer to launch them than a GPU to compute them, and each launch has a toll of its
 * own behind a bridge. A prompt takes the next larger graph, whose other lines are of no row.
 */
function* graphSizes(): Generator<number> {
  // Up to eight lines, kernels are others for each number.
  yield* [1, 2, 4, 8];
  for (let lines = 16; lines < 256; lines += 16) yield lines;
  for (let lines = 256; ; lines += 32) yield lines;
}

/** The sizes of graphs of prompts that a runner of this shape captures, ascending. */
export function promptGraphSizes({
  capturedPrompts,
  maxBatchTokens,
}: Pick<RunnerShape, 'capturedPrompts' | 'maxBatchTokens'>): readonly number[] {
  const sizes: number[] = [];
  const most = Math.min(capturedPrompts, maxBatchTokens);
  for (const lines of graphSizes()) {
    if (lines > most) return sizes;
    sizes.push(lines);
  }
  return sizes;
}

/**
 * Lines of a plan's prompts: with those that pad them where they go into a graph of one of these
 * `sizes`. Beside rows that decode they do not.
 */
export function promptLineCount(
  { prefill, decode }: Pick<StepPlan, 'prefill' | 'decode'>,
  sizes: readonly number[],
): number {
  if (prefill.length === 0) return 0;
  const tokens = prefill.reduce((sum, chunk) => sum + chunk.length, 0);
  if (decode.length > 0) return tokens;
  return sizes.find((size) => size >= tokens) ?? tokens;
}
