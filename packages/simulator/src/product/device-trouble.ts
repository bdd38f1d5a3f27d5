import { type Device, DeviceError, type Lane } from '@bridgekeeper/device';
import type { Random } from '../world/random.ts';

/** How a device fails from now on. */
export type DeviceFault =
  /** Nothing works any more: an Xid that takes the context along. */
  | 'context-lost'
  /** One copy fails. */
  | 'copy-failed'
  /** One lane ends, and the others go on. */
  | 'lane-lost'
  /** What is asked of it never ends, and nothing says so. */
  | 'hang';

/** Breaks the device of a server when it is told to. */
export class DeviceTrouble {
  /** Whether the device that is open has failed in any way. */
  hasFailed = false;
  /** Whether any device has, that is open or was. */
  hasEverFailed = false;
  #next: DeviceFault | null = null;
  #isLost = false;
  #isHanging = false;
  #lostLanes = new Set<string>();
  /** Copies take so much longer before then. */
  #slowUntilNs = 0;
  #slowNs = 0;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Whether what is asked of the device that is open never ends. */
  get isHanging(): boolean {
    return this.#isHanging;
  }

  /** What has not failed yet does not. */
  calm(): void {
    this.#next = null;
    this.slow(0, 0);
  }

  fail(fault: DeviceFault): void {
    this.#next = fault;
  }

  /** Copies take up to `moreNs` longer for a while. */
  slow(untilNs: number, moreNs: number): void {
    this.#slowUntilNs = untilNs;
    this.#slowNs = moreNs;
  }

  /** Puts itself between a device that was just opened and its user. */
  watch(device: Device): void {
    this.hasFailed = false;
    this.#next = null;
    this.#isLost = false;
    this.#isHanging = false;
    this.#lostLanes = new Set();
    const { clock } = device;
    this.#watchLane(device.inlineLane, clock);
    const openLane = device.openLane.bind(device);
    device.openLane = async (options) => {
      this.#check();
      const lane = await openLane(options);
      this.#watchLane(lane, clock);
      return lane;
    };
    const createStream = device.createStream.bind(device);
    device.createStream = (label) => {
      const stream = createStream(label);
      const launchGraph = stream.launchGraph.bind(stream);
      stream.launchGraph = (graph) => {
        this.#check();
        launchGraph(graph);
      };
      const synchronize = stream.synchronize.bind(stream);
      stream.synchronize = async () => {
        this.#check();
        if (this.#hangs()) await new Promise(() => {});
        await synchronize();
      };
      return stream;
    };
  }

  #watchLane(lane: Lane, clock: Device['clock']): void {
    const copy = lane.copy.bind(lane);
    let freeNs = 0;
    lane.copy = async (request) => {
      this.#check();
      if (this.#hangs()) await new Promise(() => {});
      if (this.#next === 'copy-failed' && this.#random.chance(0.3)) {
        this.#next = null;
        this.#note();
        throw new DeviceError('launch-failed', 'a copy failed, as the simulation wanted');
      }
      if (this.#next === 'lane-lost') {
        this.#next = null;
        this.#note();
        this.#lostLanes.add(lane.id);
      }
      if (this.#lostLanes.has(lane.id)) throw new DeviceError('closed', `lane ${lane.id} is lost`);
      const done = await copy(request);
      // Where it stands in its stream stays; that it is done is known later, in the lane's order.
      const nowNs = clock.nowNs();
      const isSlow = nowNs < this.#slowUntilNs;
      const knownNs = Math.max(freeNs, isSlow ? nowNs + this.#random.below(this.#slowNs) : 0);
      if (knownNs > nowNs) {
        freeNs = knownNs;
        await clock.sleepUntilNs(knownNs);
      }
      return done;
    };
  }

  /** It fails now. */
  #note(): void {
    this.hasFailed = true;
    this.hasEverFailed = true;
  }

  #hangs(): boolean {
    if (this.#next === 'hang') {
      this.#next = null;
      this.#note();
      this.#isHanging = true;
    }
    return this.#isHanging;
  }

  /** Throws DeviceError where the context is gone. */
  #check(): void {
    if (this.#next === 'context-lost') {
      this.#next = null;
      this.#note();
      this.#isLost = true;
    }
    if (this.#isLost) throw new DeviceError('launch-failed', 'the context is lost');
  }
}
