import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type MessagePort, parentPort, type Transferable, Worker } from 'node:worker_threads';

/** Idle threads of a script that are kept: what a device has that is opened anew. */
const MAX_IDLE = 8;

/** What a thread's script says once it has done what it was started for and can do the next. */
const IDLE = 'idle';

let collect: (() => void) | undefined;

/**
 * Collects garbage. A thread that waits allocates nothing, so that nothing would be collected, and
 * the memory of the device before, which all its threads share, would stay.
 */
export function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
}

/** Says, in a thread, that it has done its task, once nothing of that is left on the stack. */
export function becomeIdle(): void {
  setImmediate(() => {
    collectGarbage();
    parentPort?.postMessage(IDLE);
  });
}

/** What a thread does for one device: it answers on `port`, and is idle when that is over. */
export interface ThreadTask {
  readonly port: MessagePort;
}

/**
 * Threads of one script. One that has done its task waits for the next, for which all it runs is
 * loaded and compiled. Idle threads keep no process running.
 */
export class Threads {
  readonly #script: URL;
  readonly #idle: Worker[] = [];

  constructor(script: URL) {
    this.#script = script;
  }

  /**
   * Has a thread do `task`. `begun` resolves once it runs, `ended` when it has done the task or is
   * gone; `onError` hears what ended it where that was not its own doing.
   */
  start(task: ThreadTask, onError: (message: string) => void) {
    const known = this.#idle.pop();
    const worker = known ?? this.#create();
    worker.ref();
    worker.postMessage(task, [task.port as Transferable]);
    const begun =
      known === undefined
        ? new Promise<void>((resolve) => worker.once('online', resolve))
        : Promise.resolve();
    const ended = new Promise<void>((resolve) => {
      const failed = (error: Error) => onError(error.message);
      const end = () => {
        worker.off('error', failed);
        worker.off('exit', end);
        worker.off('message', idle);
        resolve();
      };
      const idle = (said: unknown) => {
        if (said !== IDLE) return;
        end();
        this.#keep(worker);
      };
      worker.on('error', failed);
      worker.on('exit', end);
      worker.on('message', idle);
    });
    return { begun, ended };
  }

  /** Threads that wait. */
  get idle(): number {
    return this.#idle.length;
  }

  #create(): Worker {
    const worker = new Worker(this.#script);
    // Where it ends while it waits, whatever of, nobody is to have it, and nobody is harmed.
    worker.on('error', () => undefined);
    worker.once('exit', () => {
      const at = this.#idle.indexOf(worker);
      if (at >= 0) this.#idle.splice(at, 1);
    });
    return worker;
  }

  #keep(worker: Worker): void {
    worker.unref();
    if (this.#idle.length < MAX_IDLE) this.#idle.push(worker);
    else void worker.terminate();
  }
}
