import type { CrossingRecord } from '@bridgekeeper/bridge';
import type { CopyRequest, Lane } from '../../device.ts';
import { type Copy, checkedCopy, issueCopy, recordOf } from '../copies/copy.ts';
import type { Core } from '../core.ts';
import { type CudaStream, cudaStream } from '../cuda-stream.ts';
import { blockingCopy, type CopyThread } from './blocking-copy.ts';
import type { WorkerLane } from './worker-lane.ts';

/**
 * The launching thread's own lane. Without a law a copy is queued on its stream and awaited. An
 * imposed law that blocks the issuer blocks this thread; what it does not block is made by a thread
 * behind this lane, as the GPU's copy engine would make it.
 */
export class InlineLane implements Lane {
  readonly id = 'inline';
  readonly kind = 'inline';
  readonly #core: Core;
  readonly #thread: CopyThread;
  /** Present where the imposed law lets some copies be asynchronous. */
  readonly #engine: WorkerLane | null;

  constructor(core: Core, thread: CopyThread, engine: WorkerLane | null) {
    this.#core = core;
    this.#thread = thread;
    this.#engine = engine;
  }

  async copy(request: CopyRequest): Promise<CrossingRecord> {
    const core = this.#core;
    core.assertOpen();
    const stream = cudaStream(request.stream);
    stream.assertCopies();
    const copy = checkedCopy(core.memory, request);
    const { imposed } = core;
    if (imposed === null) return this.#queue(copy, stream);
    const issueNs = imposed.issueNs(copy.crossing);
    if (this.#engine === null || issueNs === null) return this.#block(copy, stream);
    const issuedNs = core.clock.nowNs();
    const made = this.#engine.send(copy, stream);
    imposed.blockUntil(issuedNs + issueNs);
    const issuerBlockedNs = core.clock.nowNs() - issuedNs;
    return { ...(await made), lane: this.id, issuedNs, issuerBlockedNs };
  }

  /** As the driver does it: asynchronous where the memory allows. */
  async #queue(copy: Copy, stream: CudaStream): Promise<CrossingRecord> {
    const { driver, clock, completions, copies } = this.#core;
    const before = completions.mark(stream.handle);
    const issuedNs = clock.nowNs();
    issueCopy(driver, copies, copy, stream.handle);
    const issuerBlockedNs = clock.nowNs() - issuedNs;
    const after = completions.mark(stream.handle);
    let startedNs = issuedNs;
    try {
      const started = completions.wait(before).then(() => {
        startedNs = clock.nowNs();
      });
      await Promise.all([started, completions.wait(after)]);
    } finally {
      completions.giveBack(before);
      completions.giveBack(after);
    }
    const times = { issuedNs, startedNs, completedNs: clock.nowNs(), issuerBlockedNs };
    return recordOf(copy, this.id, times);
  }

  #block(copy: Copy, stream: CudaStream): CrossingRecord {
    const ready = this.#core.completions.mark(stream.handle);
    try {
      return recordOf(copy, this.id, blockingCopy(this.#thread, copy, ready, stream.handle));
    } finally {
      this.#core.completions.giveBack(ready);
    }
  }

  /** Lives as long as its device. */
  async close(): Promise<void> {}
}
