import type { Clock, CrossingRecord } from '@bridgekeeper/bridge';
import type { Channels } from '../law/channels.ts';
import type { ImposedLaw } from '../law/imposed-law.ts';
import type { CopyOrder } from './messages.ts';
import type { SharedControl } from './shared-control.ts';

/** A lane by what its crossings need of it. */
export interface CrossingLane {
  readonly id: string;
  readonly slot: number;
  /** Of its context. */
  readonly channel: number;
}

/**
 * Makes crossings, one at a time, in the thread that calls it, and imposes the law on that thread.
 */
export class Crosser {
  readonly #lane: CrossingLane;
  readonly #control: SharedControl;
  readonly #channels: Channels;
  readonly #imposed: ImposedLaw | null;
  readonly #clock: Clock;
  readonly #assertAlive = () => this.#control.assertAlive();

  constructor(
    lane: CrossingLane,
    control: SharedControl,
    channels: Channels,
    imposed: ImposedLaw | null,
    clock: Clock,
  ) {
    this.#lane = lane;
    this.#control = control;
    this.#channels = channels;
    this.#imposed = imposed;
    this.#clock = clock;
  }

  /**
   * Waits for the work queued before the copy, and moves the bytes in the law's time. Whatever
   * happens, the copy counts as done afterwards, so that all that waits for it goes on. Throws
   * DeviceError `closed` or `launch-failed`.
   */
  cross(order: CopyOrder): CrossingRecord {
    const control = this.#control;
    const issuedNs = order.issuedNs ?? this.#clock.nowNs();
    try {
      const { after } = order;
      const isReady = after === null || control.isDone(after);
      if (!isReady) control.blockUntilDone(after);
      control.assertSound();
      const streamReadyNs = isReady ? issuedNs : this.#clock.nowNs();
      return this.#imposed === null
        ? this.#crossFreely(order, issuedNs)
        : this.#crossUnder(this.#imposed, order, issuedNs, streamReadyNs);
    } finally {
      control.completeCopy(this.#lane.slot, order.number);
    }
  }

  /** As fast as it goes, on a channel that is ours: nothing else makes lanes take turns. */
  #crossFreely(order: CopyOrder, issuedNs: number): CrossingRecord {
    const { id, channel } = this.#lane;
    this.#channels.acquire(channel, this.#assertAlive);
    try {
      const startedNs = this.#clock.nowNs();
      this.#move(order);
      const completedNs = this.#clock.nowNs();
      const issuerBlockedNs = order.issuedNs === null ? completedNs - issuedNs : 0;
      const times = { issuedNs, startedNs, completedNs, issuerBlockedNs };
      return { ...order.crossing, lane: id, ...times };
    } finally {
      this.#channels.release(channel);
    }
  }

  #crossUnder(
    imposed: ImposedLaw,
    order: CopyOrder,
    issuedNs: number,
    streamReadyNs: number,
  ): CrossingRecord {
    const { crossing, hostIsFresh } = order;
    const schedule = imposed.schedule(crossing, issuedNs, streamReadyNs, hostIsFresh);
    const { startedNs, issuerFreeNs } = schedule;
    this.#move(order);
    const completedNs = imposed.blockUntil(schedule.completedNs);
    const isBlocked = issuerFreeNs >= schedule.completedNs;
    const issuerBlockedNs = (isBlocked ? completedNs : issuerFreeNs) - issuedNs;
    const times = { issuedNs, startedNs, completedNs, issuerBlockedNs };
    return { ...crossing, lane: this.#lane.id, ...times };
  }

  #move(order: CopyOrder): void {
    const { direction, bytes } = order.crossing;
    const device = new Uint8Array(order.device, order.deviceOffsetBytes, bytes);
    const host = new Uint8Array(order.host, order.hostOffsetBytes, bytes);
    if (direction === 'h2d') device.set(host);
    else host.set(device);
    this.#control.countCopy(direction, bytes);
  }
}
