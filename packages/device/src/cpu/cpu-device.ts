import { availableParallelism, cpus, totalmem } from 'node:os';
import type { HostMemoryKind, Law } from '@bridgekeeper/bridge';
import { SystemClock } from '../clock/system-clock.ts';
import {
  type Device,
  type DeviceBuffer,
  type DeviceCounters,
  type DeviceEvent,
  type DeviceInfo,
  type DeviceRank,
  type Graph,
  type HostBuffer,
  type HostHandle,
  type Lane,
  type LaneOptions,
  onlyRank,
  type Slice,
  type Stream,
  type UploaderStart,
  type UploadTarget,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import { MAX_CHANNELS } from '../law/channels.ts';
import { Contexts, LAUNCHING_CHANNEL } from '../law/contexts.ts';
import { ImposedLaw } from '../law/imposed-law.ts';
import { ComputePool } from './compute-pool.ts';
import { type ChooseMaker, type CopyMaker, CpuLane, LaneThread } from './cpu-lane.ts';
import { CpuMemory } from './cpu-memory.ts';
import { CpuEvent, CpuStream, type StreamHub } from './cpu-stream.ts';
import { Crosser, type CrossingLane } from './crosser.ts';
import type { OpItem } from './messages.ts';
import { MAX_LANES, SharedControl } from './shared-control.ts';
import { WorkQueue } from './work-queue.ts';

const DEFAULT_THREADS = 2;
const INLINE_SLOT = 0;
const PAGE_TOKENS = 16;

export interface CpuDeviceOptions {
  /** Imposed on every crossing in real time. null: crossings cost what they cost. */
  readonly law?: Law | null;
  /** Threads that compute: min(2, cores) by default. */
  readonly threads?: number;
  /** What buffers may take: half of the machine's memory by default. */
  readonly memoryBytes?: number;
  readonly clock?: SystemClock;
}

/** Starts a device whose GPU is a few threads of this process: real results, slowly. */
export async function openCpuDevice(options: CpuDeviceOptions = {}): Promise<CpuDevice> {
  const threads = options.threads ?? Math.min(DEFAULT_THREADS, availableParallelism());
  if (!Number.isInteger(threads) || threads < 1 || threads > 256) {
    throw new DeviceError('bad-argument', `a cpu device cannot have ${threads} threads`);
  }
  const control = new SharedControl();
  const pool = await ComputePool.start(control, threads);
  return new CpuDevice(control, pool, threads, options);
}

/**
 * `Device` in threads and shared memory. Lanes impose the law, if one is given, on their threads.
 */
export class CpuDevice implements Device {
  readonly info: DeviceInfo;
  readonly ranks: readonly DeviceRank[] = onlyRank(this);
  readonly notes: readonly string[] = [];
  readonly clock: SystemClock;
  readonly inlineLane: Lane;
  readonly #control: SharedControl;
  readonly #pool: ComputePool;
  readonly law: Law | null;
  readonly #memory: CpuMemory;
  readonly #hub: StreamHub;
  readonly #lanes = new Map<number, LaneThread>();
  readonly #contexts: Contexts;
  readonly #copyNumbers = new Int32Array(MAX_LANES);
  #nextId = 1;
  #closing: Promise<void> | undefined;

  constructor(
    control: SharedControl,
    pool: ComputePool,
    threads: number,
    { law = null, memoryBytes = Math.floor(totalmem() / 2), clock }: CpuDeviceOptions,
  ) {
    this.#control = control;
    this.#pool = pool;
    this.law = law;
    this.clock = clock ?? new SystemClock();
    this.#memory = new CpuMemory(memoryBytes, threads);
    const queue = new WorkQueue(control, (message) => pool.post(message));
    const counts = { launches: 0, graphLaunches: 0 };
    this.#contexts = new Contexts(law?.profile.contexts.max ?? MAX_CHANNELS);
    const { channels } = this.#contexts;
    const assertAlive = () => control.assertAlive();
    const imposed =
      law && new ImposedLaw(law, channels, LAUNCHING_CHANNEL, this.clock, assertAlive);
    this.#hub = {
      control,
      queue,
      memory: this.#memory,
      counts,
      clock: this.clock,
      imposed,
      recording: null,
    };
    const inline = { id: 'inline', kind: 'inline', slot: INLINE_SLOT } as const;
    const noClose = () => Promise.resolve();
    const choose = this.#inlineMaker({ ...inline, channel: LAUNCHING_CHANNEL });
    this.inlineLane = new CpuLane(inline, this.#hub, this.#copyNumbers, choose, noClose);
    this.info = {
      kind: 'cpu',
      name: cpus()[0]?.model ?? 'cpu',
      element: 'f32',
      memoryBytes,
      ranks: 1,
      preferredPageTokens: PAGE_TOKENS,
      details: { cores: availableParallelism(), threads, law: law?.profile.name ?? 'off' },
    };
  }

  allocate(bytes: number, label: string): DeviceBuffer {
    this.#control.assertAlive();
    const { buffer, storage } = this.#memory.allocate(bytes, label);
    this.#hub.queue.tell({ kind: 'buffer', id: buffer.id, storage });
    return buffer;
  }

  free(buffer: DeviceBuffer): void {
    if (this.#closing !== undefined) return;
    this.#memory.free(buffer);
    this.#hub.queue.tell({ kind: 'free', id: buffer.id });
  }

  allocateHost(bytes: number, memory: HostMemoryKind, label: string): HostBuffer {
    this.#control.assertAlive();
    return this.#memory.allocateHost(bytes, memory, label);
  }

  freeHost(buffer: HostBuffer): void {
    if (this.#closing === undefined) this.#memory.freeHost(buffer);
  }

  hostHandle(buffer: HostBuffer): HostHandle {
    this.#control.assertAlive();
    return this.#memory.hostHandle(buffer);
  }

  /** Copies are made when they are begun: the work before must be done. */
  async uploadTarget(slice: Slice, stream: Stream): Promise<UploadTarget> {
    this.#control.assertAlive();
    const target = this.#memory.uploadTarget(slice);
    await stream.synchronize();
    return target;
  }

  uploaderStart(): UploaderStart | null {
    if (this.law !== null) return null;
    return { kind: 'shared', control: this.#control.memory, clockOrigin: this.clock.origin };
  }

  createStream(label: string): Stream {
    this.#control.assertAlive();
    return new CpuStream(this.#newId(), label, this.#hub);
  }

  createEvent(): DeviceEvent {
    this.#control.assertAlive();
    return new CpuEvent(this.#newId());
  }

  /** There is nothing to be done once. */
  async prepare(): Promise<void> {}

  // biome-ignore lint/correctness/useYield: there is one algorithm for each operation
  *refine(): Generator<undefined, boolean> {
    return false;
  }

  discard(): void {}

  capture(stream: Stream, label: string, record: () => void): Graph {
    this.#control.assertAlive();
    if (!(stream instanceof CpuStream) || this.#hub.recording !== null) {
      throw new DeviceError('bad-argument', `"${label}": another capture or device is in the way`);
    }
    const items: OpItem[] = [];
    this.#hub.recording = { stream, items };
    try {
      record();
    } finally {
      this.#hub.recording = null;
    }
    const id = this.#newId();
    this.#hub.queue.tell({ kind: 'graph', id, items });
    return { id, label, length: items.length };
  }

  async openLane({ label, context }: LaneOptions): Promise<Lane> {
    this.#control.assertAlive();
    let slot = INLINE_SLOT + 1;
    while (this.#lanes.has(slot)) slot += 1;
    if (slot >= MAX_LANES) {
      throw new DeviceError(
        'too-many-contexts',
        `${slot} lanes are open, and a cpu device has ${MAX_LANES} at the most: close one`,
      );
    }
    const channel = context === 'own' ? this.#contexts.open() : LAUNCHING_CHANNEL;
    const thread = this.#startLane({ id: label, slot, channel });
    const choose: ChooseMaker = () => ({ maker: thread, issuedNs: null });
    const lane = { id: label, kind: 'worker', slot } as const;
    return new CpuLane(lane, this.#hub, this.#copyNumbers, choose, async () => {
      await thread.close();
      if (this.#lanes.delete(slot)) this.#contexts.close(channel);
    });
  }

  counters(): DeviceCounters {
    return {
      ...this.#control.copyCounters(),
      ...this.#hub.counts,
      allocatedBytes: this.#memory.allocatedBytes,
    };
  }

  breathe(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    this.#control.end('closed');
    this.#memory.clear();
    await Promise.all([...this.#lanes.values()].map((lane) => lane.close()));
    await this.#pool.ended();
  }

  #newId(): number {
    this.#nextId += 1;
    return this.#nextId;
  }

  #startLane(lane: CrossingLane): LaneThread {
    const thread = new LaneThread(this.#control, {
      ...lane,
      control: this.#control.memory,
      channels: this.#contexts.channels.memory,
      profile: this.law?.profile ?? null,
      clockOrigin: this.clock.origin,
    });
    this.#lanes.set(lane.slot, thread);
    return thread;
  }

  /**
   * The launching thread makes its copies itself where the law blocks it for them.
   * Others are made by a thread that stands for the copy engine, started when it is first needed.
   */
  #inlineMaker(lane: CrossingLane): ChooseMaker {
    const { imposed } = this.#hub;
    const { channels } = this.#contexts;
    const crosser = new Crosser(lane, this.#control, channels, imposed, this.clock);
    const here: CopyMaker = { order: async (order) => crosser.cross(order) };
    let engine: LaneThread | undefined;
    return (crossing) => {
      if (imposed?.issueNs(crossing) === null) return { maker: here, issuedNs: null };
      engine ??= this.#startLane(lane);
      return { maker: engine, issuedNs: this.clock.nowNs() };
    };
  }
}
