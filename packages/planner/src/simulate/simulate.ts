import { POLICY_NAMES } from '@bridgekeeper/engine';
import { PlanError } from '../errors.ts';
import { simulateForeign } from './foreign.ts';
import { simulateOwn } from './own.ts';
import { personalityOf } from './personality.ts';
import type { Prediction } from './prediction.ts';
import type { Scenario } from './scenario.ts';

/**
 * Runs the scenario in virtual time. Throws PlanError `does-not-fit` where weights and one request
 * do not fit the GPU, `bad-workload` for a request that is too long for it, and `unknown-engine` or
 * `bad-combination` for an engine that cannot be so.
 */
export async function simulate(scenario: Scenario): Promise<Prediction> {
  const { workload, flags, model } = scenario;
  checkExperts(scenario);
  const most = Math.min(flags.maxModelTokens, model.spec.maxPositions);
  const long = workload.requests.findIndex(
    ({ promptTokens, outputTokens }) => promptTokens + outputTokens > most,
  );
  if (long >= 0) {
    const { promptTokens, outputTokens } = workload.requests[long]!;
    const message =
      `${workload.name}: request ${long + 1} has ${promptTokens} + ${outputTokens} tokens, and ` +
      `the context ends at ${most}: raise --max-model-len, or leave it out`;
    throw new PlanError('bad-workload', message);
  }
  const own = POLICY_NAMES.find((policy) => scenario.engine === `bridgekeeper-${policy}`);
  if (own !== undefined) {
    return simulateOwn(scenario, own);
  }
  return simulateForeign(scenario, personalityOf(scenario.engine));
}

/** Whole experts on several GPUs need both. */
function checkExperts({ flags, model }: Scenario): void {
  const { expertParallel, tensorParallel: gpus } = flags;
  if (!expertParallel) return;
  const all = model.spec.layerKinds.flatMap(({ feedForward }) =>
    feedForward.kind === 'experts' ? [feedForward.experts] : [],
  );
  const flag = '--enable-expert-parallel';
  if (all.length === 0) {
    throw new PlanError('bad-combination', `${flag}: ${model.name} has no experts: leave it out`);
  }
  if (gpus === 1) {
    const message = `${flag}: shares experts out to GPUs: add --tensor-parallel-size`;
    throw new PlanError('bad-combination', message);
  }
  const least = Math.min(...all);
  if (least < gpus) {
    const message = `${flag}: ${model.name} has ${least} experts, fewer than ${gpus} GPUs`;
    throw new PlanError('bad-combination', message);
  }
}
