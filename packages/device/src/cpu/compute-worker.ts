/**
 * One of the threads that stand for the GPU. All of them go through the same work, each doing its
 * share of it.
 */
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { type BoundOp, bindOp } from './bind-ops.ts';
import { DeviceMemory } from './device-memory.ts';
import type { ComputeMessage, ComputeWorkerData, OpItem, WorkItem } from './messages.ts';
import { SharedControl } from './shared-control.ts';

const { control: controlMemory, port, part, parts } = workerData as ComputeWorkerData;
const control = new SharedControl(controlMemory);
const memory = new DeviceMemory();
const graphs = new Map<number, { readonly items: readonly OpItem[]; bound: BoundOp[] | null }>();
const share = { part, parts };

/**
 * Worker 0 alone did something since all last met: the others must not run ahead into what depends
 * on it.
 */
let isAhead = false;

function meet(): void {
  if (parts > 1) control.barrier(parts);
  isAhead = false;
}

/** Runs `work` unless something failed before; a failure is reported, never thrown. */
function guarded(what: string, work: () => void): void {
  if (control.hasFailed) return;
  try {
    work();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    control.fail(`operation "${what}" failed on the cpu device: ${reason}`);
  }
}

/** All workers agree on whether an operation is split, for they decide by its arguments alone. */
function runBound({ name, isSplit, run }: BoundOp): void {
  if (!isSplit) {
    if (part === 0) guarded(name, () => run({ part: 0, parts: 1 }));
    isAhead = true;
    return;
  }
  if (isAhead) meet();
  guarded(name, () => run(share));
  meet();
}

function bindAll(items: readonly OpItem[]): BoundOp[] {
  return items.map((item) => bindOp(memory, item));
}

function runItem(item: WorkItem): void {
  if ('copies' in item) {
    if (part === 0) control.blockUntilCopied(item.copies);
    isAhead = true;
  } else if ('graph' in item) {
    const graph = graphs.get(item.graph)!;
    graph.bound ??= bindAll(graph.items);
    for (const bound of graph.bound) runBound(bound);
  } else {
    runBound(bindOp(memory, item));
  }
}

function handle(message: ComputeMessage): void {
  switch (message.kind) {
    case 'buffer':
      memory.add(message.id, message.storage);
      return;
    case 'free':
      memory.remove(message.id);
      // Bound operations hold on to memory: bind them anew, to find out what is gone.
      for (const graph of graphs.values()) graph.bound = null;
      return;
    case 'graph':
      graphs.set(message.id, { items: message.items, bound: null });
      return;
    case 'work':
      for (const item of message.items) runItem(item);
      if (part === 0) control.complete(message.ticket);
  }
}

try {
  let heard = 0;
  while (control.isAlive) {
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
      handle(next.message as ComputeMessage);
      if (!control.isAlive) break;
    }
    if (control.isAlive) heard = control.awaitRing(heard);
  }
} catch (error) {
  control.fail(`a compute thread ended: ${error instanceof Error ? error.message : String(error)}`);
  control.end('dead');
} finally {
  port.close();
}
