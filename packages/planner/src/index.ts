export { PlanError } from './errors.ts';
export { type Gpu, knownGpu, knownGpus } from './gpus/gpu.ts';
export {
  knownModel,
  knownModelNames,
  type PlannedModel,
  readPlannedModel,
} from './models/model.ts';
export { nearestNames } from './nearest.ts';
export {
  type Explanation,
  explainSteps,
  fitSteps,
  type ObservedLoad,
  type StepFit,
} from './observe/fit.ts';
export { chooseModelTokens } from './plan/fit.ts';
export { makePlan, type Plan, type PlanRequest, type Progress } from './plan/plan.ts';
export { SimulationPool } from './pool/pool.ts';
export { gainOf } from './recommend/recommend.ts';
export { planDocument } from './report/document.ts';
export { planLines } from './report/lines.ts';
export { planPage } from './report/page.ts';
export { traceEvents } from './report/trace-events.ts';
export { gainText } from './report/words.ts';
export { driveEngine } from './simulate/drive.ts';
export { enginesOf, USUAL_ENGINES } from './simulate/engine-names.ts';
export { LoadObserver } from './simulate/load.ts';
export type { Prediction } from './simulate/prediction.ts';
export {
  DEFAULT_FLAGS,
  type EngineFlags,
  type EngineName,
  type Scenario,
} from './simulate/scenario.ts';
export { simulate } from './simulate/simulate.ts';
export { validationLines } from './validate/lines.ts';
export { validate } from './validate/validate.ts';
export { isSpec, readSpec, specWorkload } from './workload/spec.ts';
export { readTrace, traceWorkload } from './workload/trace.ts';
export { summariseWorkload, type Workload } from './workload/workload.ts';
