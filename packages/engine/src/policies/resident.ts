import { BurstControl } from './burst.ts';
import { ownRoutes, Pipeline } from './pipeline.ts';
import type { Policy, StepParts } from './policy.ts';

/**
 * K decode steps a launch, the host running ahead: rows, sampling and stop checks live on the
 * device, so that a launch needs one drain, and a command only when batch or pages change. K is the
 * least with which lanes and launching thread keep up, within the inter-token limit (see
 * `BurstControl`).
 */
export async function resident(parts: StepParts): Promise<Policy> {
  const pipeline = new Pipeline(parts, await ownRoutes(parts.traffic));
  const burst = new BurstControl(parts.burst);
  return {
    stepsPerLaunch: () => burst,
    chunk: () => pipeline.chunk,
    drafts: () => pipeline.drafts,
    async step() {
      // Where fewer launches are enough than are on their way, these are only taken in.
      const launched =
        pipeline.length < burst.launches &&
        (await pipeline.due((onTheirWay) => burst.dueNs(onTheirWay))) &&
        (await pipeline.launch(burst.steps));
      if (launched && pipeline.length < burst.launches) return [];
      const committed = await pipeline.commit();
      if (committed === null) return [];
      burst.observe(committed);
      return committed.events;
    },
    hurry: () => pipeline.hurry(),
    settle: () => pipeline.settle(),
  };
}
