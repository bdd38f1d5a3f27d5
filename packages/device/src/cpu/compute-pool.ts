import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { ComputeMessage, ComputeTask } from './messages.ts';
import type { SharedControl } from './shared-control.ts';
import { Threads } from './threads.ts';

const THREADS = new Threads(new URL('./compute-worker.js', import.meta.url));

/**
 * The threads that stand for the GPU. When one of them ends before the device is closed, the device
 * is dead.
 */
export class ComputePool {
  readonly #ports: readonly MessagePort[];
  readonly #exits: readonly Promise<unknown>[];

  private constructor(ports: readonly MessagePort[], exits: readonly Promise<unknown>[]) {
    this.#ports = ports;
    this.#exits = exits;
  }

  /** Resolves when all `parts` threads run. */
  static async start(control: SharedControl, parts: number): Promise<ComputePool> {
    const ports: MessagePort[] = [];
    const threads = Array.from({ length: parts }, (_, part) => {
      const { port1, port2 } = new MessageChannel();
      ports.push(port1);
      // The workers answer through shared memory: a port must not keep the process running.
      port1.unref();
      const task: ComputeTask = { control: control.memory, port: port2, part, parts };
      return THREADS.start(task, (message) => control.fail(`a compute thread ended: ${message}`));
    });
    const exits = threads.map(({ ended }) => ended.then(() => control.end('dead')));
    const begun = threads.map((thread) => thread.begun);
    await Promise.race([Promise.all(begun), Promise.all(exits)]);
    return new ComputePool(ports, exits);
  }

  post(message: ComputeMessage): void {
    for (const port of this.#ports) port.postMessage(message);
  }

  /** Resolves when all threads have ended, which they do after `SharedControl.end`. */
  async ended(): Promise<void> {
    await Promise.all(this.#exits);
    for (const port of this.#ports) port.close();
  }
}
