import { ONE_STEP, Pipeline, stepAhead } from './pipeline.ts';
import type { Policy, StepParts } from './policy.ts';

/**
 * Issues step n's readback behind its work, and step n + 1's inputs, from the launching thread on
 * side streams, and looks at the results one step late. What vLLM, SGLang and TensorRT-LLM do by
 * default: free where copies are asynchronous; where they block, the launching thread stands still
 * for every step, and the GPU behind it.
 */
export async function overlap(parts: StepParts): Promise<Policy> {
  const { launching } = parts.traffic;
  const pipeline = new Pipeline(parts, { command: launching, drain: launching, mode: 'behind' });
  return {
    stepsPerLaunch: () => ONE_STEP,
    chunk: () => pipeline.chunk,
    drafts: () => pipeline.drafts,
    step: () => stepAhead(pipeline),
    hurry: () => pipeline.hurry(),
    settle: () => pipeline.settle(),
  };
}
