import type { Routine } from '@bridgekeeper/bridge';
import type { GenerationEvent } from '../request/request.ts';
import { ONE_STEP, Pipeline } from './pipeline.ts';
import type { Policy, StepParts } from './policy.ts';

/**
 * Drains step n before it prepares step n + 1, all from the launching thread: no copy is ever
 * issued behind queued work, and nothing runs ahead. What vLLM does with async scheduling off.
 */
export async function drainFirst(parts: StepParts): Promise<Policy> {
  const { launching } = parts.traffic;
  const pipeline = new Pipeline(parts, { command: launching, drain: launching, mode: 'when-done' });
  function* step(): Routine<readonly GenerationEvent[]> {
    yield* pipeline.launch(1);
    return (yield* pipeline.commit())?.events ?? [];
  }
  return {
    stepsPerLaunch: () => ONE_STEP,
    chunk: () => pipeline.chunk,
    drafts: () => pipeline.drafts,
    step,
    hurry: () => pipeline.hurry(),
    settle: () => pipeline.settle(),
  };
}
