import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { Crossing, CrossingRecord } from '@bridgekeeper/bridge';
import type { CopyRequest, Lane } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { CpuStream, type StreamHub } from './cpu-stream.ts';
import type { CopyAnswer, CopyOrder, LaneMessage, LaneTask } from './messages.ts';
import type { SharedControl } from './shared-control.ts';
import { Threads } from './threads.ts';

const THREADS = new Threads(new URL('./lane-worker.js', import.meta.url));

interface Waiting {
  resolve(record: CrossingRecord): void;
  reject(error: DeviceError): void;
}

/**
 * The launching thread's end of a lane's thread. When it ends before it is told to, the device is
 * dead.
 */
export class LaneThread {
  readonly #port: MessagePort;
  readonly #control: SharedControl;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended: Promise<void>;

  constructor(control: SharedControl, task: Omit<LaneTask, 'port'>) {
    this.#control = control;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.on('message', (answer: CopyAnswer) => this.#settle(answer));
    const failed = (message: string) => control.fail(`lane ${task.id}: ${message}`);
    const { ended } = THREADS.start({ ...task, port: port2 } satisfies LaneTask, failed);
    // After the last answer; where the thread is gone, too.
    const closed = new Promise<void>((resolve) => port1.once('close', resolve));
    this.#ended = Promise.all([closed, ended]).then(() => this.#abandon());
  }

  order(order: CopyOrder): Promise<CrossingRecord> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(order.number, { resolve, reject });
      this.#port.postMessage(order satisfies LaneMessage);
    });
  }

  /** Ends the thread after the copies it has been given. */
  async close(): Promise<void> {
    this.#port.postMessage('close' satisfies LaneMessage);
    await this.#ended;
  }

  #settle(answer: CopyAnswer): void {
    const waiting = this.#waiting.get(answer.number);
    this.#waiting.delete(answer.number);
    if ('record' in answer) waiting?.resolve(answer.record);
    else waiting?.reject(new DeviceError(answer.code, answer.message));
  }

  /** Copies that nobody will make any more. */
  #abandon(): void {
    if (this.#waiting.size === 0) return;
    this.#control.end('dead');
    const error = new DeviceError(
      'launch-failed',
      'the thread of a lane ended with copies to make',
    );
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

/** Makes a copy in some thread: the lane's own, or the launching one. */
export interface CopyMaker {
  order(order: CopyOrder): Promise<CrossingRecord>;
}

/** Which thread makes a crossing, and whether the launching thread is the one that issues it. */
export type ChooseMaker = (crossing: Crossing) => { maker: CopyMaker; issuedNs: number | null };

/** A lane as the engine sees it: checks requests and numbers copies; its maker does the rest. */
export class CpuLane implements Lane {
  readonly id: string;
  readonly kind: 'inline' | 'worker';
  readonly slot: number;
  readonly #hub: StreamHub;
  readonly #choose: ChooseMaker;
  readonly #onClose: () => Promise<void>;
  /** Of the lane's slot, whose last holder may have left copies behind. */
  readonly #numbers: Int32Array;
  #isClosed = false;

  constructor(
    { id, kind, slot }: { id: string; kind: 'inline' | 'worker'; slot: number },
    hub: StreamHub,
    numbers: Int32Array,
    choose: ChooseMaker,
    onClose: () => Promise<void>,
  ) {
    this.id = id;
    this.kind = kind;
    this.slot = slot;
    this.#hub = hub;
    this.#numbers = numbers;
    this.#choose = choose;
    this.#onClose = onClose;
  }

  async copy(request: CopyRequest): Promise<CrossingRecord> {
    const { control, queue, memory, recording } = this.#hub;
    control.assertAlive();
    if (this.#isClosed) throw new DeviceError('closed', `lane ${this.id} was closed`);
    const { direction, device, stream, hostOffsetBytes, purpose, tenant } = request;
    const { bytes, offsetBytes } = memory.refer(device);
    const host = memory.findHost(request.host, hostOffsetBytes, bytes);
    if (stream !== null && !(stream instanceof CpuStream)) {
      throw new DeviceError('bad-argument', `stream "${stream.label}" is not of this device`);
    }
    if (stream !== null && recording?.stream === stream) {
      throw new DeviceError('bad-argument', 'copies cannot be captured in a graph');
    }
    queue.flush();
    const number = Atomics.add(this.#numbers, this.slot, 1) + 1;
    const crossing = { direction, bytes, purpose, tenant, memory: host.memory };
    const { maker, issuedNs } = this.#choose(crossing);
    const made = maker.order({
      number: number | 0,
      crossing,
      device: memory.find(device.buffer),
      deviceOffsetBytes: offsetBytes,
      host: host.shared,
      hostOffsetBytes,
      hostIsFresh: host.isFresh,
      after: stream?.mark ?? null,
      issuedNs,
    });
    host.isFresh = false;
    stream?.follow([this.slot, number | 0]);
    return made;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#onClose();
  }
}
