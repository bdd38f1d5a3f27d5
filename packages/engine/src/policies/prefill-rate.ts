import type { StepPlan } from '../scheduler/plan.ts';
import type { Committed } from './pipeline.ts';

/** What was learnt counts so much less with each launch. */
const DECAY = 0.98;
/** The shortest launch is forgotten as fast as this, since machines change their clocks. */
const LEAST_GROWTH = 1.001;
/** Smaller chunks take as long as reading the weights does, and say nothing of larger ones. */
const LEAST_TOKENS = 64;

/**
 * What computing a prompt takes on this machine, learnt from launches: so much for each token, and
 * so much for each earlier token that it attends to. A least-squares fit of these two in which late
 * launches count more.
 */
export class PrefillRate {
  #leastNs = Infinity;
  #stepNs = 0;
  #hasSteps = false;
  // Sums over launches: tokens and attended tokens (both squared, and their product), and these
  // times the time.
  #tt = 0;
  #ta = 0;
  #aa = 0;
  #ty = 0;
  #ay = 0;

  observe({ plan, deviceNs }: Pick<Committed, 'plan' | 'deviceNs'>): void {
    if (deviceNs <= 0) return;
    const stepNs = deviceNs / plan.steps;
    this.#leastNs = Math.min(LEAST_GROWTH * this.#leastNs, stepNs);
    if (plan.prefill.length === 0) this.#observeStep(stepNs);
    else this.#observePrompts(plan, deviceNs);
  }

  #observeStep(stepNs: number): void {
    this.#stepNs += (this.#hasSteps ? 0.1 : 1) * (stepNs - this.#stepNs);
    this.#hasSteps = true;
  }

  #observePrompts({ prefill, decode }: StepPlan, deviceNs: number): void {
    let tokens = 0;
    let attended = 0;
    for (const { start, length } of prefill) {
      tokens += length;
      attended += length * (start + length / 2);
    }
    if (tokens < LEAST_TOKENS) return;
    const ns = Math.max(deviceNs / 2, deviceNs - (decode.length > 0 ? this.#stepNs : 0));
    this.#tt = DECAY * this.#tt + tokens * tokens;
    this.#ta = DECAY * this.#ta + tokens * attended;
    this.#aa = DECAY * this.#aa + attended * attended;
    this.#ty = DECAY * this.#ty + tokens * ns;
    this.#ay = DECAY * this.#ay + attended * ns;
  }

  /** The least that a launch takes, however little it computes; 0 while nothing is known. */
  get launchNs(): number {
    return Number.isFinite(this.#leastNs) ? this.#leastNs : 0;
  }

  /** To compute so many tokens after so many others, alone; 0 while nothing is known. */
  ns(tokens: number, after: number): number {
    const { perTokenNs, perAttendedNs } = this.#fit();
    return tokens * (perTokenNs + (after + tokens / 2) * perAttendedNs);
  }

  #fit(): { readonly perTokenNs: number; readonly perAttendedNs: number } {
    const proportional = { perTokenNs: this.#tt === 0 ? 0 : this.#ty / this.#tt, perAttendedNs: 0 };
    const determinant = this.#tt * this.#aa - this.#ta * this.#ta;
    // Launches that are all alike do not tell the two apart.
    if (determinant <= 1e-6 * this.#tt * this.#aa) return proportional;
    const perTokenNs = (this.#ty * this.#aa - this.#ay * this.#ta) / determinant;
    const perAttendedNs = (this.#ay * this.#tt - this.#ty * this.#ta) / determinant;
    // Neither takes less than no time.
    return Math.min(perTokenNs, perAttendedNs) >= 0 ? { perTokenNs, perAttendedNs } : proportional;
  }
}
