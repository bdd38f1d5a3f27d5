import {
  type Clock,
  type HostMemoryKind,
  type Later,
  type Law,
  profileLaw,
  type Roofline,
  referenceProfile,
} from '@bridgekeeper/bridge';
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
  type Stream,
  type UploadTarget,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import { LAUNCHING_CHANNEL } from '../law/contexts.ts';
import { linksOf } from '../law/links.ts';
import type { MadeUpDrafts } from './bookkeeping.ts';
import { Chains } from './chains.ts';
import { Machine } from './machine.ts';
import { bufferOf, ModelBuffer, ModelHostBuffer } from './memory.ts';
import { ModelLane } from './model-lane.ts';
import { ModelEvent, ModelGraph, ModelStream } from './model-stream.ts';
import { fuse, type ReachedPoint, WorkPricer } from './work.ts';

export interface ModelDeviceOptions {
  /** A VirtualClock for answers as fast as possible; a SystemClock paces the model in real time. */
  readonly clock: Clock;
  /** null, law off: bridge and submission are those of `h100-native`, measured without CC. */
  readonly law: Law | null;
  /** The GPU. The law's own unless told otherwise. */
  readonly roofline?: Roofline;
  /** How much longer measured kernels take than the roofline says; absent: as long. */
  readonly reached?: readonly ReachedPoint[];
  /** GPUs that do every launch together, all alike: what one does, the others do meanwhile. */
  readonly ranks?: number;
  /** Told of every launch's time on the GPU. */
  readonly onWork?: (startNs: number, endNs: number) => void;
  /**
   * KV has contents, and tokens are hashes of what their rows attend to there (`Chains`); weights
   * that are loaded have theirs. For small models, to see that pages and weights are where they
   * should be. By default they are nowhere.
   */
  readonly keepsKv?: boolean;
  /** How often drafts are right; absent: they are looked up, in texts that repeat nothing. */
  readonly drafts?: MadeUpDrafts | undefined;
}

/**
 * Opens a GPU that only takes time: kernels by a roofline, crossings and launches by the law. It
 * does no arithmetic; rows, commands and results are real, tokens are made up. Kernels of different
 * streams do not slow each other. The same program makes the same times and records every time.
 */
export function openModelDevice(options: ModelDeviceOptions): Device {
  return new ModelDevice(options);
}

class ModelDevice implements Device {
  readonly info: DeviceInfo;
  readonly ranks: readonly DeviceRank[] = onlyRank(this);
  readonly notes: readonly string[] = [];
  readonly clock: Clock;
  readonly law: Law | null;
  readonly inlineLane: Lane;
  readonly #machine: Machine;
  readonly #laneIds = new Set<string>();

  constructor(options: ModelDeviceOptions) {
    const { clock, law: imposed, roofline: given, reached, ranks = 1, onWork } = options;
    const { keepsKv, drafts = null } = options;
    const law = imposed ?? profileLaw(referenceProfile('h100-native'));
    const roofline = given ?? law.profile.roofline;
    const { name, gpu, submission } = law.profile;
    this.clock = clock;
    this.law = imposed;
    this.info = {
      kind: 'model',
      name: `${gpu}, modelled`,
      element: 'bf16',
      memoryBytes: roofline.memoryBytes,
      ranks,
      preferredPageTokens: 32,
      isHollow: keepsKv !== true,
      details: { profile: name, law: imposed === null ? 'off' : name },
    };
    const pricer = new WorkPricer(this.info.element, roofline, {
      nodeNs: submission.graphNodeNs,
      memoryBoundSlowdown: law.profile.memoryBoundSlowdown ?? 1,
      reached: reached ?? [],
      links: ranks === 1 ? null : linksOf(law.profile, ranks),
      chains: keepsKv === true ? new Chains() : null,
      drafts,
    });
    this.#machine = new Machine(clock, law, pricer, ranks, onWork);
    this.inlineLane = this.#addLane('inline', 'inline', LAUNCHING_CHANNEL);
  }

  allocate(bytes: number, label: string): DeviceBuffer {
    this.#machine.assertOpen();
    const { counters } = this.#machine;
    const buffer = new ModelBuffer(this.#machine.nextId(), checkedSize(bytes, label), label);
    const freeBytes = this.info.memoryBytes - counters.allocatedBytes;
    if (buffer.reservedBytes > freeBytes) {
      throw new DeviceError(
        'out-of-memory',
        `"${label}" needs ${bytes} bytes of device memory, and ${freeBytes} are free`,
      );
    }
    counters.allocatedBytes += buffer.reservedBytes;
    return buffer;
  }

  free(buffer: DeviceBuffer): void {
    if (this.#machine.isClosed) return;
    const known = bufferOf({ buffer, offsetBytes: 0, bytes: 0 });
    this.#machine.counters.allocatedBytes -= known.reservedBytes;
    known.release();
    this.#machine.pricer.memoryFreed();
  }

  allocateHost(bytes: number, memory: HostMemoryKind, label: string): HostBuffer {
    this.#machine.assertOpen();
    const id = this.#machine.nextId();
    return new ModelHostBuffer(id, checkedSize(bytes, label), memory, label);
  }

  freeHost(buffer: HostBuffer): void {
    if (this.#machine.isClosed) return;
    liveHost(buffer).isFreed = true;
  }

  hostHandle(buffer: HostBuffer): HostHandle {
    this.#machine.assertOpen();
    const { shared, sizeBytes } = liveHost(buffer);
    return { kind: 'shared', memory: shared, bytes: sizeBytes };
  }

  /** Virtual memory is nowhere: nobody else can write to it. */
  async uploadTarget(): Promise<UploadTarget> {
    throw new DeviceError('unsupported', 'memory of the model device has no bytes');
  }

  uploaderStart(): null {
    return null;
  }

  createStream(label: string): Stream {
    this.#machine.assertOpen();
    return new ModelStream(this.#machine, label);
  }

  createEvent(): DeviceEvent {
    this.#machine.assertOpen();
    return new ModelEvent(this.#machine.nextId());
  }

  async openLane({ label, context }: LaneOptions): Promise<Lane> {
    this.#machine.assertOpen();
    if (context === 'shared') {
      return this.#addLane(label, 'worker', LAUNCHING_CHANNEL);
    }
    const own = this.#machine.contexts.open();
    await this.#machine.wake(this.clock.nowNs() + this.#machine.law.profile.contexts.createNs);
    return this.#addLane(label, 'worker', own);
  }

  /** There is nothing to be done once. */
  async prepare(): Promise<void> {}

  // biome-ignore lint/correctness/useYield: there is one algorithm for each operation
  *refine(): Generator<undefined, boolean> {
    return false;
  }

  discard(): void {}

  capture(stream: Stream, label: string, record: () => void): Graph {
    this.#machine.assertRunning('a capture');
    const recording = { streamId: stream.id, works: [] };
    this.#machine.recording = recording;
    try {
      record();
    } finally {
      this.#machine.recording = null;
    }
    const { works } = recording;
    return new ModelGraph(this.#machine.nextId(), label, works.length, fuse(works));
  }

  counters(): DeviceCounters {
    return { ...this.#machine.counters };
  }

  breathe(): Later<void> {
    return this.#machine.wake(this.clock.nowNs());
  }

  held(): Later<void> | null {
    const nowNs = this.clock.nowNs();
    return this.#machine.launchingThread.freeAtNs > nowNs ? this.#machine.wake(nowNs) : null;
  }

  async close(): Promise<void> {
    this.#machine.isClosed = true;
  }

  #addLane(label: string, kind: 'inline' | 'worker', channel: number): ModelLane {
    let id = label;
    for (let n = 2; this.#laneIds.has(id); n++) id = `${label}-${n}`;
    this.#laneIds.add(id);
    const isOwn = channel !== LAUNCHING_CHANNEL;
    return new ModelLane(this.#machine, id, kind, channel, async () => {
      this.#laneIds.delete(id);
      if (!isOwn) return;
      await this.#machine.wake(this.clock.nowNs() + this.#machine.law.profile.contexts.destroyNs);
      this.#machine.contexts.close(channel);
    });
  }
}

function liveHost(buffer: HostBuffer): ModelHostBuffer {
  if (buffer instanceof ModelHostBuffer && !buffer.isFreed) return buffer;
  const message = `host memory "${buffer.label}" is not of this device or was freed already`;
  throw new DeviceError('bad-argument', message);
}

function checkedSize(bytes: number, label: string): number {
  if (Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  throw new DeviceError('bad-argument', `"${label}" cannot have a size of ${bytes} bytes`);
}
