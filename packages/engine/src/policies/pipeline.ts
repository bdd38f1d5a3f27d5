import { invariant } from '@bridgekeeper/bridge';
import type { GenerationEvent } from '../request/request.ts';
import type { StepsInFlight } from '../runner/runner.ts';
import type { StepRoutes } from '../runner/step-routes.ts';
import type { StepPlan } from '../scheduler/plan.ts';
import type { Traffic } from '../traffic/traffic.ts';
import type { StepParts } from './policy.ts';

/** When a launch was committed, and what it had held: what a burst's length is adapted by. */
export interface Committed {
  readonly events: readonly GenerationEvent[];
  readonly plan: StepPlan;
  readonly committedNs: number;
}

/** A lane for commands and one for drains, each with its thread. Throws DeviceError. */
export async function ownRoutes(traffic: Traffic): Promise<StepRoutes> {
  const command = await traffic.openRoute('command');
  try {
    return { command, drain: await traffic.openRoute('drain'), mode: 'when-done' };
  } catch (error) {
    await traffic.closeRoute(command);
    throw error;
  }
}

/** The launches on their way, oldest first: what every policy's loop is made of. */
export class Pipeline {
  readonly #parts: StepParts;
  readonly #routes: StepRoutes;
  readonly #inFlight: StepsInFlight[] = [];

  constructor(parts: StepParts, routes: StepRoutes) {
    this.#parts = parts;
    this.#routes = routes;
  }

  get length(): number {
    return this.#inFlight.length;
  }

  /** Plans and launches up to `steps` steps; false when there is nothing to launch now. */
  async launch(steps: number): Promise<boolean> {
    const { scheduler, runner, clock } = this.#parts;
    const plan = scheduler.plan(clock.nowNs(), steps);
    if (plan.decode.length + plan.prefill.length === 0) return false;
    this.#inFlight.push(await runner.start(plan, this.#routes));
    return true;
  }

  /** Waits for the oldest launch's results and takes them in. */
  async commit(): Promise<Committed> {
    const { scheduler, clock } = this.#parts;
    const oldest = this.#inFlight[0];
    invariant(oldest !== undefined, 'a busy scheduler has work to launch or on its way');
    const results = await oldest.results;
    this.#inFlight.shift();
    const committedNs = clock.nowNs();
    const { plan } = oldest.launched;
    return { events: scheduler.commit(plan, results, committedNs), plan, committedNs };
  }

  /** Waits for launches whose requests have all ended. */
  async settle(): Promise<void> {
    while (this.#inFlight.length > 0) await this.commit();
  }
}
