export { PlanError } from './errors.ts';
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
