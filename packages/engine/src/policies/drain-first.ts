import { invariant } from '@bridgekeeper/bridge';
import type { Policy, StepParts } from './policy.ts';

/**
 * Drains step n before it prepares step n + 1, all from the launching thread: no copy is ever
 * issued behind queued work but the drain itself, and no step runs ahead. vLLM with async
 * scheduling off does the same.
 */
export function drainFirst({ scheduler, runner, door, clock }: StepParts): Policy {
  return {
    name: 'drain-first',
    async step() {
      const plan = scheduler.plan(clock.nowNs());
      invariant(plan.decode.length + plan.prefill.length > 0, 'a busy scheduler finds work');
      await runner.upload(plan, door);
      const launched = runner.launch(plan);
      const results = await runner.drain(launched, door);
      return scheduler.commit(plan, results, clock.nowNs());
    },
  };
}
