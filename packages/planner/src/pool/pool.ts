import { Worker } from 'node:worker_threads';
import { PlanError } from '../errors.ts';
import type { Prediction } from '../simulate/prediction.ts';
import type { Scenario } from '../simulate/scenario.ts';
import type { Answer, Order } from './messages.ts';

/** Scenarios that are simulated together. */
interface Batch {
  readonly scenarios: readonly Scenario[];
  readonly results: Prediction[];
  readonly onDone: () => void;
  readonly resolve: (results: readonly Prediction[]) => void;
  readonly reject: (error: Error) => void;
  next: number;
  done: number;
}

const BACKGROUND_MIB_MAX = 1024;

/** Threads that simulate, one scenario at a time each. */
export class SimulationPool {
  readonly #threads: number;
  readonly #isBackground: boolean;
  readonly #workers: Worker[] = [];
  #batch: Batch | null = null;

  /** `isBackground`: whatever else runs on this machine comes first, and memory is bounded. */
  constructor(threads: number, isBackground = false) {
    this.#threads = threads;
    this.#isBackground = isBackground;
  }

  /**
   * What each scenario comes to, in their order; one call at a time. Throws the PlanError of the
   * first that cannot be.
   */
  run(scenarios: readonly Scenario[], onDone: () => void): Promise<readonly Prediction[]> {
    if (scenarios.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const results = new Array<Prediction>(scenarios.length);
      this.#batch = { scenarios, results, onDone, resolve, reject, next: 0, done: 0 };
      const wanted = Math.min(this.#threads, scenarios.length);
      while (this.#workers.length < wanted) this.#workers.push(this.#start());
      for (const worker of this.#workers) this.#give(worker);
    });
  }

  async close(): Promise<void> {
    this.#batch = null;
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }

  #start(): Worker {
    const isBackground = this.#isBackground;
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { isBackground },
      ...(isBackground ? { resourceLimits: { maxOldGenerationSizeMb: BACKGROUND_MIB_MAX } } : {}),
    });
    worker.on('message', (answer: Answer) => this.#take(worker, answer));
    worker.on('error', (error) => this.#fail(error));
    return worker;
  }

  #give(worker: Worker): void {
    const batch = this.#batch;
    if (batch === null || batch.next >= batch.scenarios.length) return;
    const index = batch.next++;
    const order: Order = { index, scenario: batch.scenarios[index]! };
    worker.postMessage(order);
  }

  #take(worker: Worker, answer: Answer): void {
    const batch = this.#batch;
    if (batch === null) return;
    if (!('prediction' in answer)) {
      const { code, message } = answer;
      this.#fail(code === undefined ? new Error(message) : new PlanError(code, message));
      return;
    }
    batch.results[answer.index] = answer.prediction;
    batch.done += 1;
    batch.onDone();
    if (batch.done < batch.scenarios.length) {
      this.#give(worker);
      return;
    }
    this.#batch = null;
    batch.resolve(batch.results);
  }

  /** Ends the threads: what they still work on is of no use. */
  #fail(error: Error): void {
    const batch = this.#batch;
    void this.close();
    batch?.reject(error);
  }
}
