import {
  type Clock,
  type Crossing,
  type CrossingSchedule,
  type Law,
  type Profile,
  profileLaw,
} from '@bridgekeeper/bridge/threads';
import { Channels } from './channels.ts';

/** What a lane's thread imposes a law by: plain data. */
export interface LawStart {
  /** null: nothing is imposed. */
  readonly profile: Profile | null;
  readonly channels: SharedArrayBuffer;
  readonly channel: number;
}

/**
 * A law as it is imposed in real time on one thread that crosses on one channel. A crossing is
 * scheduled, made at once, and its thread then blocked until the law says that it is over; a launch
 * keeps its thread busy for as long as the law says.
 */
export class ImposedLaw {
  readonly law: Law;
  readonly #channels: Channels;
  readonly #channel: number;
  readonly #clock: Pick<Clock, 'nowNs'>;
  readonly #assertAlive: (() => void) | undefined;

  /**
   * `assertAlive` is called now and then while a thread is blocked: what it throws ends the wait.
   * Without it, only the end of the thread does.
   */
  constructor(
    law: Law,
    channels: Channels,
    channel: number,
    clock: Pick<Clock, 'nowNs'>,
    assertAlive?: () => void,
  ) {
    this.law = law;
    this.#channels = channels;
    this.#channel = channel;
    this.#clock = clock;
    this.#assertAlive = assertAlive;
  }

  static onThread(
    { profile, channels, channel }: LawStart,
    clock: Pick<Clock, 'nowNs'>,
    assertAlive?: () => void,
  ): ImposedLaw | null {
    if (profile === null) return null;
    return new ImposedLaw(profileLaw(profile), new Channels(channels), channel, clock, assertAlive);
  }

  schedule(
    crossing: Crossing,
    issuedNs: number,
    streamReadyNs: number,
    hostIsFresh: boolean,
  ): CrossingSchedule {
    const { law } = this;
    const channel = this.#channel;
    return this.#channels.schedule(channel, law, crossing, issuedNs, streamReadyNs, hostIsFresh);
  }

  /** How long issuing such a crossing blocks its thread; null: until it is done. */
  issueNs({ direction, memory }: Pick<Crossing, 'direction' | 'memory'>): number | null {
    const { issuer } = this.law.profile.crossings[direction][memory];
    return issuer.blockedUntil === 'done' ? null : issuer.issueNs;
  }

  /** Blocks this thread until a launch that began at `startedNs` is over. */
  blockForLaunch(startedNs: number, kind: 'launch' | 'graph'): void {
    const busyNs = kind === 'launch' ? this.law.launchNs() : this.law.graphLaunchNs();
    this.blockUntil(startedNs + busyNs);
  }

  /** Blocks this thread: it sleeps for most of the time, then spins. Returns when it really is. */
  blockUntil(wakeNs: number): number {
    for (;;) {
      const nowNs = this.#clock.nowNs();
      if (nowNs >= wakeNs) return nowNs;
      this.#assertAlive?.();
      const mostMs = this.#assertAlive === undefined ? Number.POSITIVE_INFINITY : LOOK_AGAIN_MS;
      const sleepNs = wakeNs - nowNs - SPIN_NS;
      if (sleepNs > 0) Atomics.wait(SLEEP_CELL, 0, 0, Math.min(sleepNs / 1e6, mostMs));
    }
  }
}

/** A sleeping thread may wake this much too late: the rest of a wait is spun. */
const SPIN_NS = 150_000;
/** No longer is slept without a look at whether the device is still alive. */
const LOOK_AGAIN_MS = 100;
const SLEEP_CELL = new Int32Array(new SharedArrayBuffer(4));
