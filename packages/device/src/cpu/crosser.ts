import type { Clock, CrossingRecord, Law } from '@bridgekeeper/bridge';
import type { Channel } from './channel.ts';
import type { CopyOrder } from './messages.ts';
import type { SharedControl } from './shared-control.ts';

/** Timers overshoot by about this much: the rest of a wait is spun. */
const SPIN_NS = 150_000;
const SLEEP_MAX_MS = 100;

/**
 * Makes crossings, one at a time, in the thread that calls it, and imposes the law on that thread.
 */
export class Crosser {
  readonly #lane: { readonly id: string; readonly slot: number };
  readonly #control: SharedControl;
  readonly #channel: Channel;
  readonly #law: Law | null;
  readonly #clock: Clock;

  constructor(
    lane: { readonly id: string; readonly slot: number },
    control: SharedControl,
    channel: Channel,
    law: Law | null,
    clock: Clock,
  ) {
    this.#lane = lane;
    this.#control = control;
    this.#channel = channel;
    this.#law = law;
    this.#clock = clock;
  }

  /**
   * Waits for the work queued before the copy, then for the channel, and moves the bytes in the
   * law's time. Whatever happens, the copy counts as done afterwards: nothing waits for it for
   * ever. Throws DeviceError `closed` or `launch-failed`.
   */
  cross(order: CopyOrder): CrossingRecord {
    const control = this.#control;
    const issuedNs = order.issuedNs ?? this.#clock.nowNs();
    try {
      const isReady = control.isDone(order.after);
      control.blockUntilDone(order.after);
      control.assertSound();
      const streamReadyNs = isReady ? issuedNs : this.#clock.nowNs();
      this.#channel.acquire(control);
      try {
        return this.#serve(order, issuedNs, streamReadyNs);
      } finally {
        this.#channel.release();
      }
    } finally {
      control.completeCopy(this.#lane.slot, order.number);
    }
  }

  /** The crossing itself, on a channel that is ours. */
  #serve(order: CopyOrder, issuedNs: number, streamReadyNs: number): CrossingRecord {
    const { crossing } = order;
    const contexts = this.#control.enterBridge();
    try {
      if (this.#law === null) {
        const startedNs = this.#clock.nowNs();
        this.#move(order);
        const completedNs = this.#clock.nowNs();
        const issuerBlockedNs = order.issuedNs === null ? completedNs - issuedNs : 0;
        const lane = this.#lane.id;
        return { ...crossing, lane, issuedNs, startedNs, completedNs, issuerBlockedNs };
      }
      const plan = this.#law.schedule(crossing, {
        issuedNs,
        streamReadyNs,
        channel: this.#channel.state,
        contexts,
        hostIsFresh: order.hostIsFresh,
      });
      this.#channel.state = plan.channel;
      this.#move(order);
      const completedNs = this.#standUntil(plan.completedNs);
      const isBlocked = plan.issuerFreeNs >= plan.completedNs;
      return {
        ...crossing,
        lane: this.#lane.id,
        issuedNs,
        startedNs: plan.startedNs,
        completedNs,
        issuerBlockedNs: (isBlocked ? completedNs : plan.issuerFreeNs) - issuedNs,
      };
    } finally {
      this.#control.leaveBridge();
    }
  }

  #move(order: CopyOrder): void {
    const { direction, bytes } = order.crossing;
    const device = new Uint8Array(order.device, order.deviceOffsetBytes, bytes);
    const host = new Uint8Array(order.host, order.hostOffsetBytes, bytes);
    if (direction === 'h2d') device.set(host);
    else host.set(device);
    this.#control.countCopy(direction, bytes);
  }

  /** Stands still until `wakeNs`; returns when it really is. */
  #standUntil(wakeNs: number): number {
    const cell = new Int32Array(new SharedArrayBuffer(4));
    for (;;) {
      const nowNs = this.#clock.nowNs();
      if (nowNs >= wakeNs) return nowNs;
      this.#control.assertAlive();
      const sleepNs = wakeNs - nowNs - SPIN_NS;
      if (sleepNs > 0) Atomics.wait(cell, 0, 0, Math.min(sleepNs / 1e6, SLEEP_MAX_MS));
    }
  }
}
