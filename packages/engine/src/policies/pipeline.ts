import { first, Later, noteOthers, type Routine, run, wakeAt } from '@bridgekeeper/bridge';
import type { GenerationEvent } from '../request/request.ts';
import type { FinishedSteps, LaunchTimes, StepsInFlight } from '../runner/runner.ts';
import type { StepRoutes } from '../runner/step-routes.ts';
import type { StepPlan } from '../scheduler/plan.ts';
import type { Traffic } from '../traffic/traffic.ts';
import { ChunkControl } from './chunk.ts';
import { DraftControl } from './draft-control.ts';
import type { StepParts } from './policy.ts';

/** A launch that was taken in: what requests get to see, and what a burst is adapted by. */
export interface Committed {
  readonly events: readonly GenerationEvent[];
  readonly plan: StepPlan;
  readonly times: LaunchTimes;
  /** For which the device worked on it: from when it had it and was done with the one before. */
  readonly deviceNs: number;
  /**
   * For which the launching thread was busy since the launch before was taken in, other than with
   * launching prompts; null: nothing was on its way then, and it may have had nothing to do.
   */
  readonly hostNs: number | null;
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

/** Of the policies that drain every step. */
export const ONE_STEP = { steps: 1, reason: 'this policy drains every step' } as const;

/** The launches on their way, oldest first: what every policy's loop is made of. */
export class Pipeline {
  readonly #parts: StepParts;
  readonly #routes: StepRoutes;
  readonly #chunk: ChunkControl;
  readonly #drafts: DraftControl | null;
  readonly #inFlight: StepsInFlight[] = [];
  #hurry: Later<void> | undefined;
  /** Stores will hurry it once something there has come to its end. */
  #isListening = false;
  /** Since when the launching thread has had work; null: it has none. */
  #busySinceNs: number | null = null;
  /** Of the time since, for which it waited or launched prompts. */
  #waitedNs = 0;
  #lastDoneNs = 0;

  constructor(parts: StepParts, routes: StepRoutes) {
    this.#parts = parts;
    this.#routes = routes;
    const { interTokenLimitNs } = parts.burst;
    const { maxBatchTokens } = parts.scheduler;
    this.#chunk = new ChunkControl({ interTokenLimitNs, maxBatchTokens });
    const { runner, speculation: options = null } = parts;
    const draftedBucketOf = (rows: number) =>
      runner.canDraft(rows) ? runner.bucketOf(rows) : null;
    this.#drafts = options === null ? null : new DraftControl({ options, draftedBucketOf });
  }

  /** Tokens that launches draft for each row now, and why; null: none ever do. */
  get drafts(): { readonly drafts: number; readonly reason: string } | null {
    return this.#drafts?.last ?? null;
  }

  /** Tokens that a launch with prompts may compute while rows decode, and why. */
  get chunk(): { readonly tokens: number; readonly reason: string } {
    return this.#chunk;
  }

  get length(): number {
    return this.#inFlight.length;
  }

  /**
   * Waits until it is time for the next launch: at `dueNs` of those on their way, or once a request
   * arrives. False: the oldest launch is to be taken in first.
   */
  *due(dueNs: (onTheirWay: readonly StepsInFlight[]) => number): Routine<boolean> {
    const { scheduler, clock } = this.#parts;
    const oldest = this.#inFlight[0];
    if (oldest === undefined || scheduler.hasPrompts) return true;
    const calledNs = clock.nowNs();
    const atNs = dueNs(this.#inFlight);
    if (atNs <= calledNs) return true;
    const came = yield first<unknown>([wakeAt(clock, atNs), this.#change(), oldest.finished]);
    this.#waitedNs += clock.nowNs() - calledNs;
    // Nothing is left for the device when the last one is done.
    return came === undefined || this.#inFlight.length === 1;
  }

  /** Settled when there may be something new to launch. */
  #change(): PromiseLike<void> {
    const hurried = new Later<void>();
    this.#hurry = hurried;
    this.#listen();
    return hurried;
  }

  /** What stores end hurries this. They are asked once until then: most waits end otherwise. */
  #listen(): void {
    const { mover } = this.#parts;
    if (mover === null) return;
    // It works by promises, of which a virtual clock knows nothing.
    noteOthers();
    if (this.#isListening) return;
    this.#isListening = true;
    const settled = () => {
      this.#isListening = false;
      this.hurry();
    };
    first([mover.whenSettled()]).tell({ settled });
  }

  /** Settled when there may be something new to launch, or what was on its way is late. */
  #arrival(): PromiseLike<void> {
    const { scheduler, clock } = this.#parts;
    const { lateNs } = scheduler;
    const late = lateNs === null ? [] : [wakeAt(clock, lateNs)];
    return first([this.#change(), ...late]);
  }

  /** A request has arrived, or left: a launch that waits for its time is made now. */
  hurry(): void {
    this.#hurry?.resolve();
  }

  /**
   * Plans and launches up to `steps` steps; false when there is nothing to launch now. Where
   * nothing is on its way either, all prompts wait for pages from stores, and so does this.
   */
  *launch(steps: number): Routine<boolean> {
    const { scheduler, runner, clock, mover } = this.#parts;
    const draftsFor = this.#drafts?.draftsFor;
    const plan = scheduler.plan(clock.nowNs(), steps, this.#chunk.tokens, draftsFor);
    const queued = mover?.queueMoves();
    if (queued !== undefined) yield queued;
    if (plan.decode.length + plan.prefill.length === 0) {
      if (this.#inFlight.length === 0 && scheduler.isRestoring) yield this.#arrival();
      return false;
    }
    const calledNs = clock.nowNs();
    const started = yield* runner.start(plan, this.#routes);
    // Prompts are launched operation by operation: that says nothing of what a burst takes.
    const isBurst = plan.prefill.length === 0;
    this.#waitedNs += isBurst ? started.commandWaitNs : clock.nowNs() - calledNs;
    this.#inFlight.push(started);
    return true;
  }

  /** Waits for the oldest launch's results and takes them in; null: none is on its way. */
  *commit(): Routine<Committed | null> {
    const { scheduler, clock, prefillRate } = this.#parts;
    const oldest = this.#inFlight[0];
    if (oldest === undefined) return null;
    const calledNs = clock.nowNs();
    const { results, times } = (yield oldest.finished) as FinishedSteps;
    const nowNs = clock.nowNs();
    this.#waitedNs += nowNs - calledNs;
    this.#inFlight.shift();
    const { plan } = oldest.launched;
    const events = scheduler.commit(plan, results, nowNs);
    const startedNs = Math.max(times.queuedNs, this.#lastDoneNs);
    const deviceNs = times.doneNs - startedNs;
    this.#lastDoneNs = times.doneNs;
    this.#tell(plan, startedNs, times.doneNs);
    this.#chunk.observe({ plan, deviceNs });
    this.#drafts?.observe({ plan, deviceNs });
    prefillRate.observe({ plan, deviceNs });
    return { events, plan, times, deviceNs, hostNs: this.#hostNs(clock.nowNs()) };
  }

  #tell({ steps, decode, prefill }: StepPlan, startedNs: number, doneNs: number): void {
    const { onLaunch } = this.#parts;
    if (onLaunch === undefined) return;
    const promptTokens = prefill.reduce((sum, { length }) => sum + length, 0);
    onLaunch({ startedNs, doneNs, steps, rows: decode.length, promptTokens });
  }

  #hostNs(nowNs: number): number | null {
    const sinceNs = this.#busySinceNs;
    const hostNs = sinceNs === null ? null : nowNs - sinceNs - this.#waitedNs;
    this.#busySinceNs = this.#inFlight.length > 0 ? nowNs : null;
    this.#waitedNs = 0;
    return hostNs;
  }

  /** Waits for launches whose requests have all ended. */
  async settle(): Promise<void> {
    while (this.#inFlight.length > 0) await run(this.commit());
  }
}

/** Launches a step, and takes in the one before it, once there is one. */
export function* stepAhead(pipeline: Pipeline): Routine<readonly GenerationEvent[]> {
  const launched = yield* pipeline.launch(1);
  if (launched && pipeline.length < 2) return [];
  return (yield* pipeline.commit())?.events ?? [];
}
