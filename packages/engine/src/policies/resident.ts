import { BurstControl } from './burst.ts';
import { Pipeline } from './pipeline.ts';
import type { Policy, StepParts } from './policy.ts';

/**
 * K decode steps a launch, the host running ahead: rows, sampling and stop checks live on the
 * device, so that a launch needs one drain, and a command only when batch or pages change. K
 * follows the toll and the measured step, within the inter-token limit (see `BurstControl`).
 */
export async function resident(parts: StepParts): Promise<Policy> {
  const command = await parts.traffic.openRoute('command');
  const drain = await parts.traffic.openRoute('drain');
  const pipeline = new Pipeline(parts, { command, drain, mode: 'when-done' });
  const burst = new BurstControl(parts.burst);
  return {
    stepsPerLaunch: () => burst.steps,
    async step() {
      const launched = await pipeline.launch(burst.steps);
      if (launched && pipeline.length < burst.launches) return [];
      const committed = await pipeline.commit();
      burst.observe(committed, pipeline.length > 0);
      return committed.events;
    },
    settle: () => pipeline.settle(),
  };
}
