import { ONE_STEP, ownRoutes, Pipeline } from './pipeline.ts';
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
    async step() {
      const launched = await pipeline.launch(1);
      if (launched && pipeline.length < 2) return [];
      return (await pipeline.commit())?.events ?? [];
    },
    hurry: () => pipeline.hurry(),
    settle: () => pipeline.settle(),
  };
}
