import { Worker } from 'node:worker_threads';
import type { CrossingRecord } from '@bridgekeeper/bridge';
import type { CopyRequest, Lane } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import { type Copy, checkedCopy, recordOf } from '../copies/copy.ts';
import { Hold } from '../copies/hold.ts';
import type { Core } from '../core.ts';
import { type CudaStream, cudaStream } from '../cuda-stream.ts';
import type { LaneReply, LaneRequest, LaneStart } from './lane-protocol.ts';

interface Pending {
  readonly copy: Copy;
  readonly ready: bigint | null;
  resolve(record: CrossingRecord): void;
  reject(error: DeviceError): void;
}

const HOLD_BYTES = 4;

/**
 * A lane on a thread of its own. The thread waits for the event that marks the work before a copy;
 * the copy's stream waits on the GPU for the lane's hold, so that its later work follows the copy
 * although this thread never waits.
 */
export class WorkerLane implements Lane {
  readonly id: string;
  readonly kind = 'worker';
  readonly #core: Core;
  readonly #worker: Worker;
  readonly #hold: Hold;
  readonly #pending = new Map<number, Pending>();
  readonly #ended: Promise<void>;
  readonly #onClosed: () => void;
  #isOpen = true;
  #isFreed = false;

  private constructor(
    core: Core,
    id: string,
    worker: Worker,
    holdAddress: bigint,
    onClosed: () => void,
  ) {
    this.id = id;
    this.#core = core;
    this.#onClosed = onClosed;
    this.#worker = worker;
    this.#hold = new Hold(core.driver, holdAddress);
    this.#ended = new Promise((resolve) => worker.once('exit', () => resolve()));
    worker.on('message', (reply: LaneReply) => this.#settle(reply));
    worker.on('error', (cause) => this.#failAll('launch-failed', cause));
    worker.on('exit', () => this.#failAll('closed'));
  }

  /** Starts the thread and resolves when its context is open. */
  static async open(
    core: Core,
    id: string,
    start: Omit<LaneStart, 'holdAddress'>,
    onClosed: () => void,
  ): Promise<WorkerLane> {
    const holdAddress = core.memory.allocateScratch(HOLD_BYTES, `lane ${id}`);
    await core.clear(holdAddress, HOLD_BYTES);
    const workerData: LaneStart = { ...start, holdAddress };
    const worker = new Worker(new URL('./lane-worker.js', import.meta.url), { workerData });
    try {
      await new Promise<void>((resolve, reject) => {
        worker.once('message', () => resolve());
        worker.once('error', reject);
      });
    } catch (cause) {
      core.memory.freeScratch(holdAddress);
      throw new DeviceError('launch-failed', `lane ${id} could not be opened: ${String(cause)}`, {
        cause,
      });
    }
    return new WorkerLane(core, id, worker, holdAddress, onClosed);
  }

  async copy(request: CopyRequest): Promise<CrossingRecord> {
    this.#core.assertOpen();
    const stream = cudaStream(request.stream);
    stream.assertCopies();
    return this.send(checkedCopy(this.#core.memory, request), stream);
  }

  /**
   * Hands a checked copy to the thread. Before this returns, later work of `stream` is bound to
   * follow it. On an idle stream the thread is given nothing of the launching context to ask about:
   * that context may be busy waiting for all of its streams (a kernel's first launch, an
   * allocation), and with them for this very copy.
   */
  async send(copy: Copy, stream: CudaStream): Promise<CrossingRecord> {
    // A hold that no thread releases would block the stream for ever.
    if (!this.#isOpen) throw new DeviceError('closed', `lane ${this.id} is closed`);
    const { driver, completions } = this.#core;
    const ready = driver.isStreamIdle(stream.handle) ? null : completions.mark(stream.handle);
    const number = this.#hold.place(stream.handle);
    const order: LaneRequest = { number, copy, ready };
    this.#worker.postMessage(order);
    return new Promise((resolve, reject) => {
      this.#pending.set(number, { copy, ready, resolve, reject });
    });
  }

  #settle(reply: LaneReply): void {
    if (reply.kind === 'open') return;
    const pending = this.#pending.get(reply.number);
    if (pending === undefined) return;
    this.#pending.delete(reply.number);
    if (pending.ready !== null) this.#core.completions.giveBack(pending.ready);
    if (reply.kind === 'copied') {
      pending.resolve(recordOf(pending.copy, this.id, reply.times));
    } else {
      pending.reject(new DeviceError(reply.failure.code, reply.failure.message));
    }
  }

  #failAll(code: 'launch-failed' | 'closed', cause?: unknown): void {
    this.#isOpen = false;
    const reason = cause === undefined ? 'has ended' : `failed: ${String(cause)}`;
    for (const { ready, reject } of this.#pending.values()) {
      if (ready !== null) this.#core.completions.giveBack(ready);
      reject(new DeviceError(code, `the thread of lane ${this.id} ${reason}`, { cause }));
    }
    // The streams must not be blocked by copies that no thread makes.
    if (this.#pending.size > 0) this.#core.release(this.#hold);
    this.#pending.clear();
  }

  async close(): Promise<void> {
    if (this.#isOpen) {
      this.#isOpen = false;
      const request: LaneRequest = 'close';
      this.#worker.postMessage(request);
    }
    await this.#ended;
    // Also where the thread died by itself: its context would count for ever.
    if (this.#isFreed) return;
    this.#isFreed = true;
    this.#core.memory.freeScratch(this.#hold.address);
    this.#onClosed();
  }
}
