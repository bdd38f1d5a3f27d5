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
  if (own !== undefined) return simulateOwn(scenario, own);
  return simulateForeign(scenario, personalityOf(scenario.engine));
}
