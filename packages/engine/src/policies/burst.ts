import type { StepsInFlight } from '../runner/runner.ts';
import { IN_FLIGHT, MAX_STEPS } from '../runner/shapes.ts';
import { Estimate, milliseconds } from './estimate.ts';
import type { Committed } from './pipeline.ts';

/** What the length of a burst is derived from, besides what is measured. */
export interface BurstLimits {
  /** What a crossing of a step pays at least: believed until some were measured. */
  readonly tollNs: number;
  /** Longest burst that a client should notice: a launch's steps arrive together. */
  readonly interTokenLimitNs: number;
}

/** What one launch takes, beside its steps, of those who could be too slow for it. */
export interface LaunchCosts {
  /** For which its drains keep their lane busy. */
  readonly drainNs: number;
  /** For which its command keeps the other lane busy, if there is one. */
  readonly commandNs: number;
  /** For which it keeps the launching thread busy. */
  readonly hostNs: number;
  /** From its end on the device until its results are there. */
  readonly latencyNs: number;
}

/** What the next launch may be: K steps, and so many launches on their way. */
export interface Burst {
  readonly steps: number;
  readonly launches: number;
}

/** The most of a launch's time that a lane, or the launching thread, may be busy for it. */
const OCCUPANCY_MAX = 0.7;

/** The part of the queued work before whose end the next launch is made at the latest. */
const EARLY_SHARE = 0.2;
/** What a timer, or the collector of garbage, may be late by. */
const LATE_NS = 500e3;

/**
 * The shortest burst that lanes and launching thread keep up with, within the limit; at least one
 * step. Longer ones gain nothing: drains run beside the steps. And the fewest launches in flight
 * with which the next one is queued before the device has done the last: what arrives waits behind
 * those that are queued.
 */
export function burstOf(limits: BurstLimits, stepNs: number, costs: LaunchCosts): Burst {
  const { drainNs, commandNs, hostNs, latencyNs } = costs;
  const wanted = Math.ceil(Math.max(drainNs, commandNs, hostNs) / (OCCUPANCY_MAX * stepNs));
  const most = Math.min(MAX_STEPS, Math.floor(limits.interTokenLimitNs / stepNs));
  const steps = Math.max(1, Math.min(wanted, most));
  // A launch is planned when the results of an earlier one are there; then its command crosses.
  const aheadNs = latencyNs + commandNs + hostNs;
  const ahead = Math.max(1, Math.ceil(aheadNs / (steps * stepNs)));
  return { steps, launches: Math.min(IN_FLIGHT, 1 + ahead) };
}

/** The steps of a launch where nothing was measured but a step, and crossings pay the toll. */
export function burstSteps(limits: BurstLimits, stepNs: number): number {
  const { tollNs } = limits;
  const costs = { drainNs: tollNs, commandNs: tollNs, hostNs: 0, latencyNs: tollNs };
  return burstOf(limits, stepNs, costs).steps;
}

/** Adapts the burst to the times it sees: of steps, drains, commands and the launching thread. */
export class BurstControl implements Burst {
  readonly #limits: BurstLimits;
  readonly #plain = new Estimate(0);
  /** Of steps with drafts, which take longer. */
  readonly #drafted = new Estimate(0);
  /** Of steps like the last ones. */
  #step = this.#plain;
  readonly #drain: Estimate;
  readonly #command: Estimate;
  readonly #latency: Estimate;
  readonly #host = new Estimate(0);
  #lastStepNs = 0;
  #lastDoneNs = 0;
  #burst: Burst = { steps: 1, launches: 2 };

  constructor(limits: BurstLimits) {
    this.#limits = limits;
    this.#drain = new Estimate(limits.tollNs);
    this.#command = new Estimate(limits.tollNs);
    this.#latency = new Estimate(limits.tollNs);
  }

  get steps(): number {
    return this.#burst.steps;
  }

  get launches(): number {
    return this.#burst.launches;
  }

  /**
   * Learns from a committed launch. Launches with prompts say how long crossings take, but not how
   * long a step does.
   */
  observe({ plan, times, deviceNs, hostNs }: Omit<Committed, 'events'>): void {
    this.#drain.observe(times.drainNs);
    this.#latency.observe(times.drainedNs - times.doneNs);
    if (times.commandNs > 0) this.#command.observe(times.commandNs);
    if (hostNs !== null) this.#host.observe(hostNs);
    this.#lastDoneNs = times.doneNs;
    const stepNs = Math.max(1, deviceNs / plan.steps);
    if (plan.prefill.length === 0) {
      this.#lastStepNs = stepNs;
      this.#step = plan.drafts > 0 ? this.#drafted : this.#plain;
      this.#step.observe(stepNs);
    }
    if (!this.#step.isObserved) return;
    this.#burst = burstOf(this.#limits, this.#step.meanNs, this.#costs());
  }

  /**
   * When the next launch should be made, so that it is queued before the device has done those on
   * their way; what arrives until then can be part of it, and waits for less. 0: at once.
   */
  dueNs(onTheirWay: readonly StepsInFlight[]): number {
    if (!this.#step.isObserved) return 0;
    const { commandNs, hostNs } = this.#costs();
    // Too late costs more than too early: of a batch that has shrunk, the last step is believed.
    const stepNs = Math.min(this.#lastStepNs, this.#step.meanNs);
    let endNs = this.#lastDoneNs;
    let queuedNs = 0;
    for (const { launched, queuedNs: sinceNs } of onTheirWay) {
      const { prefill, steps } = launched.plan;
      // How long a prompt takes is not known.
      if (prefill.length > 0) return 0;
      endNs = Math.max(endNs, sinceNs) + steps * stepNs;
      queuedNs += steps * stepNs;
    }
    return endNs - (commandNs + hostNs + LATE_NS + EARLY_SHARE * queuedNs);
  }

  #costs(): LaunchCosts {
    return {
      drainNs: this.#drain.highNs,
      commandNs: this.#command.highNs,
      hostNs: this.#host.highNs,
      latencyNs: this.#latency.highNs,
    };
  }

  /** Why the burst is what it is now, for people. */
  get reason(): string {
    if (!this.#step.isObserved) return 'no decode step was measured yet: one step a launch';
    const { steps, launches } = this.#burst;
    const stepNs = this.#step.meanNs;
    const { drainNs, commandNs, hostNs } = this.#costs();
    const busiest = [
      { ns: drainNs, what: 'a drain', who: 'its lane' },
      { ns: commandNs, what: 'a command', who: 'its lane' },
      { ns: hostNs, what: 'launching', who: 'its thread' },
    ].reduce((most, each) => (each.ns > most.ns ? each : most));
    const { ns, what, who } = busiest;
    const share = ns / (steps * stepNs);
    const found =
      `a step takes ${milliseconds(stepNs)} and ${what} ${milliseconds(ns)}: ` +
      `${who} is busy for ${percent(share)} of a launch of ${steps}`;
    const inFlight = `${launches} launches in flight`;
    if (share <= OCCUPANCY_MAX)
      return `${found}, of ${percent(OCCUPANCY_MAX)} at most; ${inFlight}`;
    const limit = milliseconds(this.#limits.interTokenLimitNs);
    const why =
      steps === MAX_STEPS ? 'no launch holds more' : `tokens may take ${limit} to come, no more`;
    return `${found}, but ${why}; ${inFlight}`;
  }
}

const percent = (share: number) => `${Math.round(100 * share)} %`;
