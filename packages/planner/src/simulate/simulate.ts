import { POLICY_NAMES } from '@bridgekeeper/engine';
import { PlanError } from '../errors.ts';
import { simulateOwn } from './own.ts';
import type { Prediction } from './prediction.ts';
import type { Scenario } from './scenario.ts';

/**
 * Runs the scenario in virtual time. Throws PlanError `does-not-fit` where weights and one request
 * do not fit the GPU, and `bad-combination` for an engine that cannot be so.
 */
export async function simulate(scenario: Scenario): Promise<Prediction> {
  const own = POLICY_NAMES.find((policy) => scenario.engine === `bridgekeeper-${policy}`);
  if (own !== undefined) return simulateOwn(scenario, own);
  throw new PlanError('unknown-engine', `--engine ${scenario.engine}: is not known`);
}
