/**
 * One of the threads that stand for the GPU. All of them go through the same work, each doing its
 * share of it.
 */
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { type BoundOp, bindOp } from './bind-ops.ts';
import { DeviceMemory } from './device-memory.ts';
import type { ComputeMessage, ComputeTask, OpItem, WorkItem } from './messages.ts';
import { SharedControl } from './shared-control.ts';
import { becomeIdle } from './threads.ts';

interface RecordedGraph {
  readonly items: readonly OpItem[];
  /** null: what it is bound to may be gone. */
  bound: BoundOp[] | null;
}

/** What one thread does for one device. */
class ComputeWorker {
  readonly #control: SharedControl;
  readonly #share: { readonly part: number; readonly parts: number };
  readonly #memory = new DeviceMemory();
  readonly #graphs = new Map<number, RecordedGraph>();
  /**
   * Worker 0 alone did something since all last met: the others must not run ahead into what
   * depends on it.
   */
  #isAhead = false;

  constructor({ control, part, parts }: ComputeTask) {
    this.#control = new SharedControl(control);
    this.#share = { part, parts };
  }

  /** Works until the device has ended. Whether it did so without a failure of this thread. */
  run(port: MessagePort): boolean {
    const control = this.#control;
    try {
      let heard = 0;
      while (control.isAlive) {
        for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
          this.#handle(next.message as ComputeMessage);
          if (!control.isAlive) break;
        }
        if (control.isAlive) heard = control.awaitRing(heard);
      }
      return true;
    } catch (error) {
      control.fail(
        `a compute thread ended: ${error instanceof Error ? error.message : String(error)}`,
      );
      control.end('dead');
      return false;
    } finally {
      port.close();
    }
  }

  #handle(message: ComputeMessage): void {
    switch (message.kind) {
      case 'buffer':
        this.#memory.add(message.id, message.storage);
        return;
      case 'free':
        this.#memory.remove(message.id);
        // Bound operations hold on to memory: bind them anew, to find out what is gone.
        for (const graph of this.#graphs.values()) graph.bound = null;
        return;
      case 'graph':
        this.#graphs.set(message.id, { items: message.items, bound: null });
        return;
      case 'work':
        for (const item of message.items) this.#runItem(item);
        if (this.#share.part === 0) this.#control.complete(message.ticket);
    }
  }

  #runItem(item: WorkItem): void {
    if ('copies' in item) {
      if (this.#share.part === 0) this.#control.blockUntilCopied(item.copies);
      this.#isAhead = true;
    } else if ('graph' in item) {
      const graph = this.#graphs.get(item.graph)!;
      graph.bound ??= graph.items.map((each) => bindOp(this.#memory, each));
      for (const bound of graph.bound) this.#runBound(bound);
    } else {
      this.#runBound(bindOp(this.#memory, item));
    }
  }

  /** All workers agree on whether an operation is split, for they decide by its arguments alone. */
  #runBound({ name, isSplit, run }: BoundOp): void {
    if (!isSplit) {
      if (this.#share.part === 0) this.#guarded(name, () => run({ part: 0, parts: 1 }));
      this.#isAhead = true;
      return;
    }
    if (this.#isAhead) this.#meet();
    this.#guarded(name, () => run(this.#share));
    this.#meet();
  }

  #meet(): void {
    if (this.#share.parts > 1) this.#control.barrier(this.#share.parts);
    this.#isAhead = false;
  }

  /** Runs `work` unless something failed before; a failure is reported, never thrown. */
  #guarded(what: string, work: () => void): void {
    if (this.#control.hasFailed) return;
    try {
      work();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#control.fail(`operation "${what}" failed on the cpu device: ${reason}`);
    }
  }
}

parentPort?.on('message', (task: ComputeTask) => {
  if (new ComputeWorker(task).run(task.port)) becomeIdle();
  else process.exit();
});
