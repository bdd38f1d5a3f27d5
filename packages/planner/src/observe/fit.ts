import { quantile } from '@bridgekeeper/report';
import type { Prediction } from '../simulate/prediction.ts';

/** What a client saw of one closed loop against a server. */
export interface ObservedLoad {
  readonly concurrency: number;
  readonly requests: number;
  /** Requests that failed; the rest is of the others. */
  readonly failed: number;
  readonly promptTokensMean: number;
  readonly outputTokensMean: number;
  /** Of each request the mean time between its tokens; the median of these. */
  readonly stepNs: number;
  /** Median time to the first token. */
  readonly firstTokenNs: number;
  readonly outputTokensPerSecond: number;
}

/** A step as a line over how many rows it has. */
export interface StepFit {
  /** Of a step without rows: weights from memory, launches, the host's own work. */
  readonly fixedNs: number;
  /** What each row adds. */
  readonly perRowNs: number;
  /** How far the line is from what was seen, by load, as a part of that. */
  readonly residuals: readonly number[];
}

/**
 * Fits steps by medians of slopes (Theil and Sen), so that one load that was disturbed moves
 * nothing. One load alone has no slope: all of it is fixed.
 */
export function fitSteps(loads: readonly ObservedLoad[]): StepFit {
  const slopes = loads.flatMap((a, index) =>
    loads.slice(index + 1).flatMap((b) => {
      const rows = b.concurrency - a.concurrency;
      return rows === 0 ? [] : [(b.stepNs - a.stepNs) / rows];
    }),
  );
  const perRowNs = Math.max(0, median(slopes));
  const fixedNs = Math.max(
    0,
    median(loads.map(({ stepNs, concurrency }) => stepNs - perRowNs * concurrency)),
  );
  const residuals = loads.map(({ stepNs, concurrency }) => {
    return stepNs === 0 ? 0 : (stepNs - fixedNs - perRowNs * concurrency) / stepNs;
  });
  return { fixedNs, perRowNs, residuals };
}

const median = (values: readonly number[]) =>
  quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );

/** What steps wait for the host's own work: of an engine that would run ahead, while blocked. */
const exposedHostNs = ({ hostNs, blockedNs }: Prediction['step']) => hostNs + blockedNs;

/** One load beside its prediction. Nanoseconds of a step. */
export interface ExplainedLoad {
  readonly concurrency: number;
  readonly observedNs: number;
  /** What the prediction has without the host's own work. */
  readonly machineNs: number;
  /** Observed, less the machine's and the host's. */
  readonly unexplainedNs: number;
}

export interface Explanation {
  /** The host's own work in a step, as it fits best over the loads; never below 0. */
  readonly hostNs: number;
  /** What the prediction had taken for it, on average. */
  readonly predictedHostNs: number;
  readonly loads: readonly ExplainedLoad[];
  /** The largest part of a step that neither explains; below 0 where it was faster. */
  readonly worstPart: number;
}

/**
 * The host's time in a step: what is left of observed steps once the prediction's memory,
 * arithmetic and bridge are taken away. `predictions` are of the same loads, in their order.
 */
export function explainSteps(
  loads: readonly ObservedLoad[],
  predictions: readonly Prediction[],
): Explanation {
  const machines = predictions.map(({ tpotMs, step }) => {
    const share = step.stepNs === 0 ? 0 : exposedHostNs(step) / step.stepNs;
    return tpotMs.p50 * 1e6 * (1 - share);
  });
  const left = loads.map(({ stepNs }, index) => stepNs - machines[index]!);
  const hostNs = Math.max(0, median(left));
  const explained = loads.map(({ concurrency, stepNs }, index): ExplainedLoad => {
    const machineNs = machines[index]!;
    const unexplainedNs = stepNs - machineNs - hostNs;
    return { concurrency, observedNs: stepNs, machineNs, unexplainedNs };
  });
  const parts = explained.map(({ unexplainedNs, observedNs }) =>
    observedNs === 0 ? 0 : unexplainedNs / observedNs,
  );
  const worstPart = parts.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
  const hosts = predictions.map(({ step }) => exposedHostNs(step));
  const predictedHostNs = hosts.reduce((sum, ns) => sum + ns, 0) / Math.max(1, hosts.length);
  return { hostNs, predictedHostNs, loads: explained, worstPart };
}
