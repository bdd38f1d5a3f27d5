import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import type { Repeats } from './limits.ts';

/** The operator stopped the probe: what was measured so far is kept. */
export class ProbeStopped extends Error {
  override readonly name = 'ProbeStopped';
}

/** Fewer say nothing about spread. */
const LEAST = 3;

/** Repeats a measurement within its bounds. Times are the host's, never the device's events. */
export class Sampler {
  readonly #nowNs: () => number;
  readonly #stop: AbortSignal;

  constructor(nowNs: () => number, stop: AbortSignal) {
    this.#nowNs = nowNs;
    this.#stop = stop;
  }

  /** Throws ProbeStopped once the operator has had enough. */
  assertGoesOn(): void {
    if (this.#stop.aborted) throw new ProbeStopped('the probe was stopped');
  }

  /** Medians of what `once` measured, and how far apart, with the warm-ups left out. */
  async measure(
    parameters: MeasuredRun['parameters'],
    repeats: Repeats,
    once: () => Promise<MeasuredRun['metrics']>,
  ): Promise<MeasuredRun> {
    const results: MeasuredRun['metrics'][] = [];
    const endNs = this.#nowNs() + repeats.budgetNs;
    for (let i = 0; i < repeats.warmups; i++) await this.#one(once);
    while (results.length < repeats.most && (results.length < LEAST || this.#nowNs() < endNs)) {
      results.push(await this.#one(once));
    }
    return summarise(parameters, results);
  }

  #one(once: () => Promise<MeasuredRun['metrics']>): Promise<MeasuredRun['metrics']> {
    this.assertGoesOn();
    return once();
  }
}
