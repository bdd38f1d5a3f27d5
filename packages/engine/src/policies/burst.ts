import { IN_FLIGHT, MAX_STEPS } from '../runner/shapes.ts';
import type { Committed } from './pipeline.ts';

/** What the length of a burst is derived from. */
export interface BurstLimits {
  /** What a drain pays at least, whatever it carries: from the profile that is believed. */
  readonly tollNs: number;
  /** Longest burst that a client should notice: a launch's steps arrive together. */
  readonly interTokenLimitNs: number;
}

/** A drain's toll may take this part of the time of the launch it drains. */
const TOLL_SHARE = 0.01;
/** How fast the estimate of a step's time follows what is observed. */
const FOLLOW = 0.2;

/**
 * The smallest power of two of steps that keeps the toll under its share, if the burst stays
 * within the limit; else the longest burst that does. At least one.
 */
export function burstSteps({ tollNs, interTokenLimitNs }: BurstLimits, stepNs: number): number {
  const wanted = tollNs / (TOLL_SHARE * stepNs);
  const most = Math.min(MAX_STEPS, interTokenLimitNs / stepNs);
  let steps = 1;
  while (steps < wanted && steps * 2 <= most) steps *= 2;
  return steps;
}

/** Launches in flight that keep the GPU busy while one launch's results cross and are taken in. */
function burstLaunches({ tollNs }: BurstLimits, steps: number, stepNs: number): number {
  const crossing = Math.ceil((2 * tollNs) / (steps * stepNs));
  return Math.min(IN_FLIGHT, 1 + Math.max(1, crossing));
}

/** Adapts the burst to the step time it sees. */
export class BurstControl {
  readonly #limits: BurstLimits;
  #stepNs: number | undefined;
  #lastNs: number | undefined;
  steps = 1;
  launches = 2;

  constructor(limits: BurstLimits) {
    this.#limits = limits;
  }

  /**
   * Learns from a committed launch. Only a launch of pure decoding that followed another without a
   * gap (`isBusy`) says how long a step takes.
   */
  observe({ plan, committedNs }: Committed, isBusy: boolean): void {
    const sinceLastNs = this.#lastNs === undefined ? undefined : committedNs - this.#lastNs;
    this.#lastNs = isBusy && plan.prefill.length === 0 ? committedNs : undefined;
    if (sinceLastNs === undefined || plan.prefill.length > 0) return;
    const observedNs = Math.max(1, sinceLastNs / plan.steps);
    const before = this.#stepNs ?? observedNs;
    this.#stepNs = before + FOLLOW * (observedNs - before);
    this.steps = burstSteps(this.#limits, this.#stepNs);
    this.launches = burstLaunches(this.#limits, this.steps, this.#stepNs);
  }
}
