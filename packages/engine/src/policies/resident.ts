import type { Routine } from '@bridgekeeper/bridge';
import type { GenerationEvent } from '../request/request.ts';
import type { StepsInFlight } from '../runner/runner.ts';
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
  const dueNs = (onTheirWay: readonly StepsInFlight[]) => burst.dueNs(onTheirWay);
  function* step(): Routine<readonly GenerationEvent[]> {
    // Where fewer launches are enough than are on their way, these are only taken in.
    const launched =
      pipeline.length < burst.launches &&
      (yield* pipeline.due(dueNs)) &&
      (yield* pipeline.launch(burst.steps));
    if (launched && pipeline.length < burst.launches) return [];
    const committed = yield* pipeline.commit();
    if (committed === null) return [];
    burst.observe(committed);
    return committed.events;
  }
  return {
    stepsPerLaunch: () => burst,
    chunk: () => pipeline.chunk,
    drafts: () => pipeline.drafts,
    step,
    hurry: () => pipeline.hurry(),
    settle: () => pipeline.settle(),
  };
}
