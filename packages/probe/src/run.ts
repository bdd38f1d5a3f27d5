import { type Device, DeviceError } from '@bridgekeeper/device';
import type { MeasuredRun } from '@bridgekeeper/report';
import type { ProbeLimits } from './limits.ts';
import { measureCollectives, noCollectives } from './measure/collectives.ts';
import { measureContexts, measureSharedContext } from './measure/contexts.ts';
import { measureCrossings, measureFreshMemory, measureHostMemory } from './measure/crossings.ts';
import { measureLocal, measureNodes, measureSmallProducts } from './measure/local.ts';
import { measureBatch, measureContext, measurePeers, tryFeatures } from './measure/machine.ts';
import { measureIssue } from './measure/queued.ts';
import { measureSubmission } from './measure/submission.ts';
import { ProbeStopped, Sampler } from './sampler.ts';
import { type ProbedGroup, Workbench } from './workbench.ts';

/** One part of the probe. */
interface Step {
  readonly title: string;
  /** Without it there is no profile, so it is not left out for lack of time. */
  readonly isNeeded: boolean;
  /** Why there is nothing to measure here; null: there is. */
  absence?(bench: Workbench): string | null;
  measure(bench: Workbench): Promise<MeasuredRun[]>;
}

const COLLECTIVES: Step = {
  title: 'collectives',
  isNeeded: false,
  absence: noCollectives,
  measure: measureCollectives,
};

/** In order of need: what is cut off at the end is what can best be missed. */
const STEPS: readonly Step[] = [
  { title: 'crossings by size', isNeeded: true, measure: measureCrossings },
  { title: 'who blocks', isNeeded: true, measure: measureIssue },
  { title: 'launches', isNeeded: true, measure: measureSubmission },
  { title: 'device memory and matrix product', isNeeded: true, measure: measureLocal },
  { title: 'kernels in a graph', isNeeded: true, measure: measureNodes },
  { title: 'contexts', isNeeded: true, measure: measureContexts },
  { title: 'a context alone', isNeeded: true, measure: measureContext },
  { title: 'streams of one context', isNeeded: true, measure: measureSharedContext },
  { title: 'fresh memory', isNeeded: true, measure: measureFreshMemory },
  { title: 'what CC may forbid', isNeeded: true, measure: tryFeatures },
  { title: 'other GPUs', isNeeded: false, measure: measurePeers },
  COLLECTIVES,
  { title: 'small products', isNeeded: false, measure: measureSmallProducts },
  { title: 'host memory', isNeeded: false, measure: measureHostMemory },
  { title: 'batched copies', isNeeded: false, measure: measureBatch },
];

/** What became of one step. */
export interface StepOutcome {
  readonly step: string;
  readonly outcome: 'measured' | 'refused' | 'left-out' | 'stopped';
  /** What the platform said, or why there was no time or nothing to measure. */
  readonly detail: string | null;
  readonly seconds: number;
}

export interface ProbeRun {
  readonly runs: readonly MeasuredRun[];
  readonly steps: readonly StepOutcome[];
  /** Whether every step that the law needs was measured, and none was stopped. */
  readonly isComplete: boolean;
}

export interface RunOptions {
  readonly device: Device;
  readonly group: ProbedGroup;
  readonly limits: ProbeLimits;
  /** Real time, also for a device whose own time is virtual. */
  readonly nowNs: () => number;
  readonly stop: AbortSignal;
  readonly onStep: (title: string, index: number, total: number) => void;
}

/**
 * Runs every step on the device. What the platform refuses ends its step only; what the operator
 * stops ends the probe; either way the runs so far are there.
 */
export async function runProbe(options: RunOptions): Promise<ProbeRun> {
  const { device, group, limits, nowNs, stop, onStep } = options;
  const sampler = new Sampler(nowNs, stop);
  const startedNs = nowNs();
  const bench = await Workbench.open(device, limits, sampler, group);
  const runs: MeasuredRun[] = [];
  const steps: StepOutcome[] = [];
  for (const [index, { title, isNeeded, absence, measure }] of STEPS.entries()) {
    const stepNs = nowNs();
    const note = (outcome: StepOutcome['outcome'], detail: string | null) =>
      steps.push({ step: title, outcome, detail, seconds: (nowNs() - stepNs) / 1e9 });
    if (stop.aborted) {
      note('stopped', null);
      continue;
    }
    if (!isNeeded && stepNs - startedNs > limits.deadlineNs) {
      note('left-out', 'there was no time left for it');
      continue;
    }
    const absent = absence?.(bench) ?? null;
    if (absent !== null) {
      note('left-out', absent);
      continue;
    }
    onStep(title, index, STEPS.length);
    try {
      runs.push(...(await measure(bench)));
      note('measured', null);
    } catch (error) {
      if (error instanceof ProbeStopped) note('stopped', null);
      else if (error instanceof DeviceError) note('refused', error.message);
      else throw error;
    }
  }
  const isComplete = steps.every(
    ({ outcome }, index) =>
      outcome === 'measured' || (outcome !== 'stopped' && !STEPS[index]!.isNeeded),
  );
  return { runs, steps, isComplete };
}
