import { BurstControl } from './burst.ts';
import { ownRoutes, Pipeline } from './pipeline.ts';
import type { Policy, StepParts } from './policy.ts';

/**
 * K decode steps a launch, the host running ahead: rows, sampling and stop checks live on the
 * device, so that a launch needs one drain, and a command only when batch or pages change. K
 * follows the toll and the measured step, within the inter-token limit (see `BurstControl`).
 */
export async function resident(parts: StepParts): Promise<Policy> {
  const pipeline = new Pipeline(parts, await ownRoutes(parts.traffic));
  const burst = new BurstControl(parts.burst);
  return {
    stepsPerLaunch: () => burst.steps,
    async step() {
      // Where fewer launches are enough than are on their way, these are only taken in.
      const launched = pipeline.length < burst.launches && (await pipeline.launch(burst.steps));
      if (launched && pipeline.length < burst.launches) return [];
      const committed = await pipeline.commit();
      burst.observe(committed, pipeline.length > 0);
      return committed.events;
    },
    settle: () => pipeline.settle(),
  };
}
