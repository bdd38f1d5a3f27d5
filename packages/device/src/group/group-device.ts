import type { Clock, CrossingRecord, HostMemoryKind, Law } from '@bridgekeeper/bridge';
import type {
  CopyRequest,
  Device,
  DeviceBuffer,
  DeviceCounters,
  DeviceEvent,
  DeviceInfo,
  DeviceRank,
  Graph,
  HostBuffer,
  HostHandle,
  Lane,
  LaneOptions,
  Stream,
  UploadTarget,
} from '../device.ts';
import { DeviceError } from '../errors.ts';
import { GroupBuffer, partOf, sliceOf } from './group-memory.ts';
import { GroupEvent, GroupGraph, GroupStream, graphOf, streamOf } from './group-stream.ts';
import type { Members, PeerLinks } from './members.ts';

/** Ranks of one device in turn: what several devices do, without their speed. */
export function splitDevice(device: Device, ranks: number): Device {
  const counts = { launches: 0, graphLaunches: 0 };
  return new GroupDevice({ devices: [device], ranks, links: null, counts, memberOf: () => 0 });
}

/** A rank for each device. They share a clock, and `links` reach from each to each. */
export function joinDevices(devices: readonly Device[], links: PeerLinks): Device {
  const ranks = devices.length;
  const counts = { launches: 0, graphLaunches: 0 };
  return new GroupDevice({ devices, ranks, links, counts, memberOf: (rank) => rank });
}

/**
 * Several ranks as one device. A buffer is one on each, named alike; a launch goes to all with the
 * memory of each; what comes up crosses to the first and goes on from there to the others, and what
 * goes down is the first one's. So one scheduler, one command and one drain serve all, and only
 * who fills ranks differently (weights) looks at `ranks`.
 */
class GroupDevice implements Device {
  readonly info: DeviceInfo;
  readonly ranks: readonly DeviceRank[];
  readonly clock: Clock;
  readonly law: Law | null;
  readonly inlineLane: Lane;
  readonly #members: Members;
  readonly #streams: GroupStream[] = [];
  #nextId = 1;
  #closing: Promise<void> | undefined;

  constructor(members: Members) {
    this.#members = members;
    const { devices, ranks } = members;
    const first = devices[0]!;
    this.clock = first.clock;
    this.law = first.law;
    this.inlineLane = new GroupLane(first.inlineLane);
    const perDevice = ranks / devices.length;
    const memoryBytes = Math.min(...devices.map(({ info }) => info.memoryBytes));
    this.info = {
      ...first.info,
      memoryBytes: Math.floor(memoryBytes / perDevice),
      ranks,
      details: { ...first.info.details, ranks },
    };
    this.ranks = Array.from({ length: ranks }, (_, rank) => ({
      device: devices[members.memberOf(rank)]!,
      part: (buffer) => partOf(buffer, rank),
      stream: (stream) => streamOf(stream).parts[members.memberOf(rank)]!,
    }));
  }

  get notes(): readonly string[] {
    return this.#first.notes;
  }

  get #first(): Device {
    return this.#members.devices[0]!;
  }

  /** Nothing is left of what not all ranks had room for. */
  allocate(bytes: number, label: string): DeviceBuffer {
    const parts: DeviceBuffer[] = [];
    try {
      for (const { device } of this.ranks) parts.push(device.allocate(bytes, label));
    } catch (error) {
      for (const [rank, part] of parts.entries()) this.ranks[rank]!.device.free(part);
      throw error;
    }
    return new GroupBuffer(this.#newId(), bytes, label, parts);
  }

  free(buffer: DeviceBuffer): void {
    for (const { device, part } of this.ranks) device.free(part(buffer));
  }

  allocateHost(bytes: number, memory: HostMemoryKind, label: string): HostBuffer {
    return this.#first.allocateHost(bytes, memory, label);
  }

  freeHost(buffer: HostBuffer): void {
    this.#first.freeHost(buffer);
  }

  hostHandle(buffer: HostBuffer): HostHandle {
    return this.#first.hostHandle(buffer);
  }

  async uploadTarget(): Promise<UploadTarget> {
    const message = 'threads copy to one rank: take its own device, of `ranks`';
    throw new DeviceError('unsupported', message);
  }

  uploaderStart(): null {
    return null;
  }

  createStream(label: string): Stream {
    const stream = new GroupStream(this.#newId(), label, this.#members);
    this.#streams.push(stream);
    return stream;
  }

  createEvent(): DeviceEvent {
    const parts = this.#members.devices.map((device) => device.createEvent());
    return new GroupEvent(this.#newId(), parts);
  }

  async openLane(options: LaneOptions): Promise<Lane> {
    return new GroupLane(await this.#first.openLane(options));
  }

  async prepare(stream: Stream, record: () => void): Promise<void> {
    const own = streamOf(stream);
    for (const [member, device] of this.#members.devices.entries()) {
      await device.prepare(own.parts[member]!, () => {
        own.only(member, record);
      });
    }
  }

  *refine(stream: Stream, record: () => void): Generator<undefined, boolean> {
    const own = streamOf(stream);
    let differs = false;
    for (const [member, device] of this.#members.devices.entries()) {
      const slices = device.refine(own.parts[member]!, () => {
        own.only(member, record);
      });
      if (yield* slices) differs = true;
    }
    return differs;
  }

  capture(stream: Stream, label: string, record: () => void): Graph {
    const own = streamOf(stream);
    let length = 0;
    const parts = this.#members.devices.map((device, member) =>
      device.capture(own.parts[member]!, label, () => {
        length = own.only(member, record);
      }),
    );
    return new GroupGraph(this.#newId(), label, length, parts);
  }

  discard(graph: Graph): void {
    const { parts } = graphOf(graph);
    for (const [member, part] of parts.entries()) this.#members.devices[member]!.discard(part);
  }

  counters(): DeviceCounters {
    const all = this.#members.devices.map((device) => device.counters());
    const sum = (field: keyof DeviceCounters) =>
      all.reduce((total, counters) => total + counters[field], 0);
    return {
      h2dBytes: sum('h2dBytes'),
      d2hBytes: sum('d2hBytes'),
      copies: sum('copies'),
      ...this.#members.counts,
      allocatedBytes: sum('allocatedBytes'),
    };
  }

  breathe(): PromiseLike<void> {
    return this.#first.breathe();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Nobody's memory goes while another's kernels may read it. */
  async #close(): Promise<void> {
    await Promise.allSettled(this.#streams.map((stream) => stream.synchronize()));
    for (const device of this.#members.devices.toReversed()) await device.close();
  }

  #newId(): number {
    this.#nextId += 1;
    return this.#nextId;
  }
}

/** Operations want slices that start here. */
const ALIGNMENT = 16;

/** The first rank's lane: what it brings up goes on to the others behind it. */
class GroupLane implements Lane {
  readonly id: string;
  readonly kind: Lane['kind'];
  readonly #lane: Lane;

  constructor(lane: Lane) {
    this.#lane = lane;
    this.id = lane.id;
    this.kind = lane.kind;
  }

  async copy(request: CopyRequest): Promise<CrossingRecord> {
    if (request.stream === null) {
      throw new DeviceError(
        'unsupported',
        'ranks copy behind a stream, which takes it to the rest',
      );
    }
    const stream = streamOf(request.stream);
    stream.assertCopies();
    const device = sliceOf(request.device, 0);
    const crossing = Promise.resolve(
      this.#lane.copy({ ...request, device, stream: stream.parts[0]! }),
    );
    if (request.direction === 'd2h') return crossing;
    // A copy that failed is told before what waits behind it.
    crossing.catch(() => undefined);
    const { buffer, offsetBytes, bytes } = request.device;
    // What comes before it is the same on all ranks.
    const before = offsetBytes % ALIGNMENT;
    stream.broadcast({ buffer, offsetBytes: offsetBytes - before, bytes: bytes + before });
    const record = await crossing;
    await stream.synchronize();
    return record;
  }

  close(): Promise<void> {
    return this.#lane.close();
  }
}
