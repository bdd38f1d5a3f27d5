import { Worker } from 'node:worker_threads';
import type { WarmUpStart } from './warm-up-protocol.ts';

/**
 * A GPU that is being made ready on a thread of its own, while this one does what needs none: its
 * context takes half a second to create, and cuBLASLt as long to load its kernels, and whoever
 * opens the device (`openCudaDevice`) finds both. What fails here is left for that to say.
 */
export class CudaWarmUp {
  readonly #worker: Worker;
  /** Resolves when the thread is over. */
  readonly ended: Promise<void>;

  constructor(start: WarmUpStart = {}) {
    this.#worker = new Worker(new URL('./warm-up-worker.js', import.meta.url), {
      workerData: start,
      // It says nothing that a person should read.
      stderr: true,
    });
    this.#worker.unref();
    this.#worker.on('error', () => undefined);
    this.ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
  }

  /** Gives the context back, which lives on while somebody else has it. */
  end(): void {
    this.#worker.postMessage('end');
  }
}
