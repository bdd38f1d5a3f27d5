import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Profile } from '@bridgekeeper/bridge';
import type { PlannedModel, Prediction, Scenario } from '@bridgekeeper/planner';
import { ApiError } from '../http/errors.ts';

/** A plan takes seconds; what takes longer is for `bridgekeeper plan`. */
const SECONDS_MAX = 120;

export interface PlanningClock {
  after(seconds: number, action: () => void): () => void;
}

/** What is served, as a planner needs it. */
export interface Served {
  /** Folder or file of the model. */
  readonly modelPath: string;
  readonly modelName: string;
  /** The bridge that is reckoned with; null: nothing is known of one. */
  readonly profile: Profile | null;
}

export type RunAll = (
  scenarios: readonly Scenario[],
  onDone: () => void,
) => Promise<readonly Prediction[]>;

/**
 * Simulates beside serving: one question at a time, in one thread of low priority, for a
 * bounded time, and no longer than somebody waits for it.
 */
export class Planning {
  readonly #clock: PlanningClock;
  readonly #served: Served;
  #isBusy = false;

  constructor(clock: PlanningClock, served: Served) {
    this.#clock = clock;
    this.#served = served;
  }

  get profile(): Profile | null {
    return this.#served.profile;
  }

  /** Loaded when it is first needed: no server is slower to start for it. */
  async planner(): Promise<typeof import('@bridgekeeper/planner')> {
    return import('@bridgekeeper/planner');
  }

  /** The model that is served; null where there is nothing that says its sizes. */
  async model(): Promise<PlannedModel | null> {
    const { modelPath, modelName } = this.#served;
    const { PlanError, readPlannedModel } = await this.planner();
    try {
      const config: unknown = JSON.parse(await readFile(join(modelPath, 'config.json'), 'utf8'));
      const name = basename(modelName);
      return readPlannedModel(name, name, `config.json of ${name}`, config);
    } catch (error) {
      const isKnown = error instanceof PlanError || error instanceof SyntaxError;
      if (isKnown || (error as NodeJS.ErrnoException).code !== undefined) return null;
      throw error;
    }
  }

  /**
   * Runs `work` with what simulates. Throws ApiError `rate_limited` while another question is
   * simulated, `unsupported_value` where it takes too long, and PlanError.
   */
  async run<T>(signal: AbortSignal, work: (runAll: RunAll) => Promise<T>): Promise<T> {
    if (this.#isBusy) {
      const message = 'Another plan is simulated: this server makes one at a time.';
      throw new ApiError('rate_limited', message, undefined, { retryAfterSeconds: 5 });
    }
    this.#isBusy = true;
    try {
      const { SimulationPool } = await this.planner();
      const pool = new SimulationPool(1, true);
      const ended = this.#end(signal);
      try {
        const result = work((scenarios, onDone) => pool.run(scenarios, onDone));
        // Of what is given up nobody hears more.
        result.catch(() => undefined);
        return await Promise.race([result, ended.promise]);
      } finally {
        ended.cancel();
        await pool.close();
      }
    } finally {
      this.#isBusy = false;
    }
  }

  #end(signal: AbortSignal) {
    let reject!: (error: Error) => void;
    const promise = new Promise<never>((_, refuse) => {
      reject = refuse;
    });
    promise.catch(() => undefined);
    const leave = () => reject(new ApiError('shutting_down', 'Nobody waits for it any more.'));
    const cancelTimer = this.#clock.after(SECONDS_MAX, () =>
      reject(
        new ApiError(
          'unsupported_value',
          `It takes more than ${SECONDS_MAX} s: ask for less, or run \`bridgekeeper plan\`.`,
        ),
      ),
    );
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave);
    const cancel = () => {
      cancelTimer();
      signal.removeEventListener('abort', leave);
    };
    return { promise, cancel };
  }
}
