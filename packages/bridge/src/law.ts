import type { Crossing } from './crossing.ts';
import type { Profile } from './profile.ts';

/** What one secure channel (one context's) carries from crossing to crossing. */
export interface ChannelState {
  /** When its last crossing to the device ends. */
  readonly h2dFreeAtNs: number;
  /** When its last one from the device ends. A context that serialises waits for both. */
  readonly d2hFreeAtNs: number;
  /** Bytes carried since the keys last rotated. */
  readonly bytesSinceRotation: number;
}

export const FRESH_CHANNEL: ChannelState = {
  h2dFreeAtNs: 0,
  d2hFreeAtNs: 0,
  bytesSinceRotation: 0,
};

/** What a crossing finds when it is issued. */
export interface Situation {
  readonly issuedNs: number;
  /** When the work queued on its stream is done: `issuedNs` or earlier on an idle stream. */
  readonly streamReadyNs: number;
  readonly channel: ChannelState;
  /** Contexts that share the bridge while it crosses, its own included. */
  readonly contexts: number;
  /** Whether its host memory never crossed since it was allocated. Absent: it did. */
  readonly hostIsFresh?: boolean;
}

/** What becomes of it. */
export interface CrossingSchedule {
  readonly startedNs: number;
  readonly completedNs: number;
  /** When the issuing thread goes on: `completedNs` where the law blocks, else soon after issue. */
  readonly issuerFreeNs: number;
  readonly channel: ChannelState;
}

/**
 * The law: a pure function from a crossing and its situation to cost and to whom it blocks.
 * Where a device takes `Law | null`, null is "law off": nothing is imposed, and crossings cost what
 * the hardware makes them cost.
 */
export interface Law {
  readonly profile: Profile;
  schedule(crossing: Crossing, situation: Situation): CrossingSchedule;
  /** How long the launching thread is busy with one launch. */
  launchNs(): number;
  graphLaunchNs(): number;
}
