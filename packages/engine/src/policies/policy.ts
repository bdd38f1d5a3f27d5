import type { Clock } from '@bridgekeeper/bridge';
import type { GenerationEvent } from '../request.ts';
import type { Door } from '../runner/door.ts';
import type { Runner } from '../runner/runner.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import { drainFirst } from './drain-first.ts';

/** What every step policy is made from. */
export interface StepParts {
  readonly scheduler: Scheduler;
  readonly runner: Runner;
  /** The launching thread's own door. */
  readonly door: Door;
  readonly clock: Clock;
}

/** When a step's crossings are made, and by whom: the only thing in which policies differ. */
export interface Policy {
  readonly name: PolicyName;
  /** Does one step's worth of work and returns what requests get to see now. */
  step(): Promise<readonly GenerationEvent[]>;
}

const POLICIES = { 'drain-first': drainFirst } as const;

export type PolicyName = keyof typeof POLICIES;
export const POLICY_NAMES = Object.keys(POLICIES) as readonly PolicyName[];

export function createPolicy(name: PolicyName, parts: StepParts): Policy {
  return POLICIES[name](parts);
}
