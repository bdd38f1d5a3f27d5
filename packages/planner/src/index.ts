export { PlanError } from './errors.ts';
export { knownGpu, knownGpus } from './gpus/gpu.ts';
export { knownModel } from './models/model.ts';
export { driveEngine } from './simulate/drive.ts';
export { LoadObserver } from './simulate/load.ts';
export {
  type ColdPhase,
  type CrossingRate,
  type LaneSpan,
  type Percentiles,
  type Prediction,
  type StepBreakdown,
  taxOf,
} from './simulate/prediction.ts';
export {
  DEFAULT_FLAGS,
  type EngineFlags,
  type EngineName,
  type GraphMode,
  PERSONALITY_NAMES,
  type PersonalityName,
  type Scenario,
  type Slo,
} from './simulate/scenario.ts';
export { simulate } from './simulate/simulate.ts';
export { readSpec, specWorkload } from './workload/spec.ts';
export type { Workload } from './workload/workload.ts';
