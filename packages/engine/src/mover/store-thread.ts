import { Worker } from 'node:worker_threads';
import type { SealFailure } from './sealed-slots.ts';
import type {
  NumberedOrder,
  StoreOpened,
  StoreOrder,
  StoreReply,
  StoreStart,
} from './store-protocol.ts';

/** The storage thread, seen from the engine's: whatever is asked of it ends. */
export class StoreThread {
  readonly #worker: Worker;
  readonly #pending = new Map<number, (failure: SealFailure | null) => void>();
  readonly #ended: Promise<void>;
  #number = 0;
  #isOpen = true;

  private constructor(worker: Worker) {
    this.#worker = worker;
    this.#ended = new Promise((resolve) => worker.once('exit', () => resolve()));
    worker.on('message', ({ number, failure }: StoreReply) => this.#settle(number, failure));
    worker.on('error', () => this.#failAll());
    worker.on('exit', () => this.#failAll());
  }

  /** Throws Error, with the system's words, where the disk's folder cannot be written to. */
  static async open(start: StoreStart): Promise<StoreThread> {
    const url = new URL('./store-worker.js', import.meta.url);
    const worker = new Worker(url, { workerData: start });
    const { refusal } = await new Promise<StoreOpened>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    worker.removeAllListeners('error');
    const thread = new StoreThread(worker);
    if (refusal === null) return thread;
    await thread.close();
    throw new Error(refusal);
  }

  /** Orders that have not ended. */
  get waiting(): number {
    return this.#pending.size;
  }

  /** What became of it; a thread that has ended fails everything. */
  do(order: StoreOrder): Promise<SealFailure | null> {
    if (!this.#isOpen) return Promise.resolve('disk-failed');
    const numbered: NumberedOrder = { number: this.#number++, order };
    this.#worker.postMessage(numbered);
    return new Promise((resolve) => this.#pending.set(numbered.number, resolve));
  }

  async close(): Promise<void> {
    if (this.#isOpen) {
      void this.do({ kind: 'close' });
      this.#isOpen = false;
    }
    await this.#ended;
  }

  #settle(number: number, failure: SealFailure | null): void {
    this.#pending.get(number)?.(failure);
    this.#pending.delete(number);
  }

  #failAll(): void {
    this.#isOpen = false;
    for (const resolve of this.#pending.values()) resolve('disk-failed');
    this.#pending.clear();
  }
}
