import {
  type MeasuredRun,
  type ResultContext,
  type ResultDocument,
  resultDocument,
} from '@bridgekeeper/report';
import type { Plan } from '../plan/plan.ts';
import type { Prediction } from '../simulate/prediction.ts';

/** A plan in the one shape of results: a run for each load, and beside them the whole plan. */
export interface PlanDocument extends ResultDocument {
  readonly plan: Plan;
}

export function planDocument(plan: Plan, context: ResultContext): PlanDocument {
  const device = { name: `modelled ${plan.gpu.title}`, driver: null };
  const runs = [...plan.predictions, ...plan.points].map(({ prediction, tax }) => {
    return runOf(prediction, tax, plan.seed);
  });
  return { ...resultDocument('plan', context, device, runs), plan };
}

function runOf(prediction: Prediction, tax: number | null, seed: number): MeasuredRun {
  const { model, gpu, law, engine, workload } = prediction;
  return {
    parameters: { model, gpu, law, engine, load: workload, seed },
    metrics: {
      outputTokensPerSecond: prediction.outputTokensPerSecond,
      requestsPerSecond: prediction.requestsPerSecond,
      ttftMsP50: prediction.ttftMs.p50,
      ttftMsP99: prediction.ttftMs.p99,
      itlMsP50: prediction.itlMs.p50,
      itlMsP99: prediction.itlMs.p99,
      e2eMsP50: prediction.e2eMs.p50,
      e2eMsP99: prediction.e2eMs.p99,
      ...(tax === null ? {} : { taxFraction: tax }),
      crossingsPerToken: prediction.crossings.reduce(
        (sum, each) => sum + each.crossingsPerToken,
        0,
      ),
      bytesPerToken: prediction.crossings.reduce((sum, each) => sum + each.bytesPerToken, 0),
    },
    repeats: 1,
    spread: {},
  };
}
