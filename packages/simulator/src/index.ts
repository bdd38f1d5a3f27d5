export { FAULT_NAMES, type FaultName } from './faults.ts';
export { INVARIANTS, type InvariantName, type Violation } from './judge/judge.ts';
export { type SimulationOptions, type SimulationResult, simulate } from './simulate.ts';
