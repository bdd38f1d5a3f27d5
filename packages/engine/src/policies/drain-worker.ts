import { ONE_STEP, ownRoutes, Pipeline, stepAhead } from './pipeline.ts';
import type { Policy, StepParts } from './policy.ts';

/**
 * Runs one step ahead like `overlap`, but the crossings are made by threads that may block: a lane
 * for commands and one for results. What the patches pending in vLLM and SGLang do.
 */
export async function drainWorker(parts: StepParts): Promise<Policy> {
  const pipeline = new Pipeline(parts, await ownRoutes(parts.traffic));
  return {
    stepsPerLaunch: () => ONE_STEP,
    chunk: () => pipeline.chunk,
    drafts: () => pipeline.drafts,
    step: () => stepAhead(pipeline),
    hurry: () => pipeline.hurry(),
    settle: () => pipeline.settle(),
  };
}
