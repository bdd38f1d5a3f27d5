import { Worker } from 'node:worker_threads';
import { ControlError, type LoadQuestion, type Predicted } from '@bridgekeeper/control';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { PredictAnswer } from './predict-worker.ts';

/** Loads that are planned or wait to be. */
const OPEN_MAX = 8;
/** A load is given up after so long: it is of somebody who waits. */
const SECONDS_MAX = 60;

/**
 * The planner on a thread of its own, which starts with the first load and stays: control's own
 * thread has a lease to renew. One load after the other.
 */
export class LoadPlanner {
  readonly #secondsMax: number;
  #worker: Worker | null = null;
  #open = 0;
  #last: Promise<unknown> = Promise.resolve();

  constructor(secondsMax = SECONDS_MAX) {
    this.#secondsMax = secondsMax;
  }

  /** Throws ControlError 'bad-request', 'does-not-fit', 'busy'. */
  async predict(question: LoadQuestion): Promise<Predicted> {
    if (this.#open >= OPEN_MAX) {
      throw new ControlError('busy', `${OPEN_MAX} loads are being planned: ask again later`);
    }
    this.#open += 1;
    const mine = this.#last.then(() => this.#ask(question));
    this.#last = mine.catch(() => undefined);
    try {
      return await mine;
    } finally {
      this.#open -= 1;
    }
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }

  async #ask(question: LoadQuestion): Promise<Predicted> {
    this.#worker ??= new Worker(new URL('./predict-worker.js', import.meta.url));
    const worker = this.#worker;
    const answer = await new Promise<PredictAnswer | null>((resolve, reject) => {
      const over = () => {
        giveUp();
        worker.off('message', told).off('error', failed);
      };
      const told = (message: PredictAnswer | null) => {
        over();
        resolve(message);
      };
      const failed = (error: Error) => {
        over();
        this.#worker = null;
        reject(error);
      };
      const giveUp = HOST_CLOCK.after(this.#secondsMax, () => told(null));
      worker.on('message', told).on('error', failed);
      worker.postMessage(question);
    });
    if (answer === null) {
      // It is still at it.
      await this.close();
      const message = `this load takes over ${this.#secondsMax} s to plan: ask for a smaller one`;
      throw new ControlError('busy', message);
    }
    if ('predicted' in answer) return answer.predicted;
    const { code, message } = answer;
    throw code === null ? new Error(message) : new ControlError(code, message);
  }
}
