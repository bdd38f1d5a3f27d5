import { EventEmitter } from 'node:events';
import { copied } from './copied.ts';
import type { Loop } from './loop.ts';

/** The end of a channel that a thread has. */
export interface ThreadPort {
  postMessage(message: unknown): void;
  // biome-ignore lint/suspicious/noExplicitAny: as node:worker_threads has it
  on(event: 'message', listener: (message: any) => void): unknown;
  close(): void;
}

/** What a thread runs, in place of the script of its URL. A rejection ends it with an error. */
export type ThreadMain = (port: ThreadPort, workerData: unknown) => void | Promise<void>;

/** How long a message may take from thread to thread. */
const MESSAGE_NS = { least: 2_000, most: 40_000 };

/**
 * `Worker` of node:worker_threads, for the product: each thread is a part of the process that
 * started it, and messages are copied and take their time, in their order.
 */
export function workersOf(loop: Loop, mainOf: (script: string) => ThreadMain): unknown {
  return class SimulatedWorker extends EventEmitter {
    readonly #life = loop.current!;
    threadId = 1;
    #toThreadNs = 0;
    #toOwnerNs = 0;
    #isOver = false;
    readonly #waiting: unknown[] = [];
    #receive: ((message: unknown) => void) | undefined;

    constructor(url: URL, options: { workerData?: unknown } = {}) {
      super();
      const script = url.pathname.slice(url.pathname.lastIndexOf('/') + 1);
      const main = mainOf(script);
      const data = copied(options.workerData);
      const port: ThreadPort = {
        postMessage: (message) => {
          const copy = copied(message);
          this.#toOwner(() => this.emit('message', copy));
        },
        on: (_event, listener) => {
          this.#receive = listener;
          for (const message of this.#waiting.splice(0)) listener(message);
        },
        close: () => this.#end(0),
      };
      this.#life.at(loop.nowNs + this.#delayNs(), () => {
        Promise.resolve()
          .then(() => main(port, data))
          .catch((error: unknown) => {
            this.#toOwner(() => this.emit('error', error));
            this.#end(1);
          });
      });
    }

    postMessage(message: unknown): void {
      if (this.#isOver) return;
      const copy = copied(message);
      this.#toThreadNs = Math.max(this.#toThreadNs, loop.nowNs + this.#delayNs());
      this.#life.at(this.#toThreadNs, () => {
        if (this.#isOver) return;
        if (this.#receive === undefined) this.#waiting.push(copy);
        else this.#receive(copy);
      });
    }

    async terminate(): Promise<number> {
      this.#end(1);
      return 1;
    }

    unref(): void {}

    #toOwner(action: () => void): void {
      if (this.#isOver) return;
      this.#toOwnerNs = Math.max(this.#toOwnerNs, loop.nowNs + this.#delayNs());
      this.#life.at(this.#toOwnerNs, action);
    }

    #end(code: number): void {
      if (this.#isOver) return;
      this.#toOwner(() => this.emit('exit', code));
      this.#isOver = true;
      this.threadId = -1;
    }

    #delayNs(): number {
      return this.#life.random.between(MESSAGE_NS.least, MESSAGE_NS.most);
    }
  };
}
