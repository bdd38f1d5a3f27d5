import type { Clock, Routine } from '@bridgekeeper/bridge';
import type { Mover } from '../kv/tiers/movement.ts';
import type { GenerationEvent } from '../request/request.ts';
import type { Runner } from '../runner/runner.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { NgramOptions } from '../speculation/ngram.ts';
import type { Traffic } from '../traffic/traffic.ts';
import type { BurstLimits } from './burst.ts';
import { drainFirst } from './drain-first.ts';
import { drainWorker } from './drain-worker.ts';
import { overlap } from './overlap.ts';
import type { PrefillRate } from './prefill-rate.ts';
import { resident } from './resident.ts';

/** What every step policy is made from. */
export interface StepParts {
  readonly scheduler: Scheduler;
  readonly runner: Runner;
  /** Where a policy gets the routes that its crossings take. */
  readonly traffic: Traffic;
  readonly clock: Clock;
  readonly burst: BurstLimits;
  /** What rows may draft; absent: nothing. */
  readonly speculation?: NgramOptions | null | undefined;
  /** What moves pages between the device and the stores below it; null: there are none. */
  readonly mover: Mover | null;
  /** Learns from launches what prompts take. */
  readonly prefillRate: PrefillRate;
  /** Told of every launch once it was taken in; absent: nobody looks. */
  readonly onLaunch?: ((launch: LaunchRecord) => void) | undefined;
}

/** A launch that is done: when the device worked on it, and on what. Times are the device's. */
export interface LaunchRecord {
  readonly startedNs: number;
  readonly doneNs: number;
  /** Decode steps. */
  readonly steps: number;
  readonly rows: number;
  readonly promptTokens: number;
}

/** When a step's crossings are made, and by whom: the only thing in which policies differ. */
export interface Policy {
  /** Decode steps that a launch holds now, and why. */
  stepsPerLaunch(): { readonly steps: number; readonly reason: string };
  /** Tokens that a launch with prompts may compute while rows decode, and why. */
  chunk(): { readonly tokens: number; readonly reason: string };
  /** Tokens that launches draft for each row now, and why; null: none ever do. */
  drafts(): { readonly drafts: number; readonly reason: string } | null;
  /** Launches or commits one launch and returns what requests get to see now. */
  step(): Routine<readonly GenerationEvent[]>;
  /** A request has arrived, or left, while a step was made. */
  hurry(): void;
  /** Waits for launches on their way when no request is open any more. */
  settle(): Promise<void>;
}

const POLICIES = {
  overlap,
  'drain-first': drainFirst,
  'drain-worker': drainWorker,
  resident,
} as const;

export type PolicyName = keyof typeof POLICIES;
export const POLICY_NAMES = Object.keys(POLICIES) as readonly PolicyName[];

/** Contexts of their own that a policy's routes take (`Traffic.openRoute`). */
export function contextsOf(name: PolicyName): number {
  return name === 'resident' || name === 'drain-worker' ? 2 : 0;
}

export function createPolicy(name: PolicyName, parts: StepParts): Promise<Policy> {
  return POLICIES[name](parts);
}
