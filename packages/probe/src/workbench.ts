import type { CrossingRecord, Direction, HostMemoryKind } from '@bridgekeeper/bridge';
import {
  type Device,
  type DeviceBuffer,
  type HostBuffer,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import { type Route, Traffic } from '@bridgekeeper/engine';
import type { ProbeLimits } from './limits.ts';
import type { Sampler } from './sampler.ts';

export const DIRECTIONS = ['h2d', 'd2h'] as const;
export const MEMORIES = ['pinned', 'pageable'] as const;

/** What is copied how, apart from how much. */
export interface Way {
  readonly direction: Direction;
  readonly memory: HostMemoryKind;
}

/** All four. */
export const WAYS: readonly Way[] = DIRECTIONS.flatMap((direction) =>
  MEMORIES.map((memory) => ({ direction, memory })),
);

/** All GPUs together, or ranks of a device that has none. */
export interface ProbedGroup {
  readonly gpus: number;
  /** On the others, when the probe began. */
  readonly otherProcesses: number;
  /** As one device, which whoever opens it closes. Throws DeviceError. */
  open(): Promise<Device>;
}

/**
 * A device with the memory, the stream and the route that every measurement uses. They live as long
 * as the device.
 */
export class Workbench {
  readonly device: Device;
  readonly limits: ProbeLimits;
  readonly sampler: Sampler;
  readonly group: ProbedGroup;
  readonly stream: Stream;
  readonly traffic: Traffic;
  /** A thread of its own on the launching thread's context: it times copies without our waiting. */
  readonly route: Route;
  readonly #target: DeviceBuffer;
  readonly #hosts: Readonly<Record<HostMemoryKind, HostBuffer>>;

  private constructor(
    device: Device,
    limits: ProbeLimits,
    sampler: Sampler,
    group: ProbedGroup,
    traffic: Traffic,
    route: Route,
  ) {
    const bytes = limits.largestBytes;
    this.device = device;
    this.limits = limits;
    this.sampler = sampler;
    this.group = group;
    this.traffic = traffic;
    this.route = route;
    this.stream = device.createStream('probe');
    this.#target = device.allocate(bytes, 'probe');
    this.#hosts = {
      pinned: device.allocateHost(bytes, 'pinned', 'probe'),
      pageable: device.allocateHost(bytes, 'pageable', 'probe'),
    };
    for (const host of Object.values(this.#hosts)) this.write(host);
  }

  static async open(
    device: Device,
    limits: ProbeLimits,
    sampler: Sampler,
    group: ProbedGroup,
  ): Promise<Workbench> {
    // Nothing is known of the bridge yet, and nothing is cut.
    const traffic = new Traffic({ device, profile: null });
    const route = await traffic.openRoute('probe', 'shared');
    return new Workbench(device, limits, sampler, group, traffic, route);
  }

  nowNs(): number {
    return this.device.clock.nowNs();
  }

  /**
   * Gives a buffer real pages, written by this machine: unwritten pages are all one page of zeros.
   * Where nothing crosses it makes no difference, and would take most of the time.
   */
  write({ bytes }: HostBuffer): void {
    if (this.device.info.isHollow !== true) bytes.fill(1);
  }

  /** Copies on `route` at once, behind the work of `stream`. */
  copy(
    { direction, memory }: Way,
    bytes: number,
    { route = this.route, stream = this.stream, host = this.#hosts[memory] }: Partial<Place> = {},
  ): PromiseLike<CrossingRecord> {
    return route.crossNow({
      direction,
      device: slice(this.#target, 0, bytes),
      host,
      hostOffsetBytes: 0,
      stream,
      purpose: 'probe',
      tenant: 'probe',
    });
  }

  /** How long `action` takes until `stream` has nothing left to do. */
  async timeNs(action: () => unknown, stream = this.stream): Promise<number> {
    await stream.synchronize();
    const startedNs = this.nowNs();
    await action();
    await stream.synchronize();
    return this.nowNs() - startedNs;
  }
}

/** Where a copy is made: by default on the workbench's route, stream and memory. */
interface Place {
  readonly route: Route;
  readonly stream: Stream;
  readonly host: HostBuffer;
}
