/**
 * What an engine did within a moment, packed for the way between threads. Times are the device's
 * clock in ns.
 */
export interface LiveBatch {
  /** When it was packed. */
  readonly nowNs: number;
  /** Lanes by the numbers that crossings name them by; grows, and never changes otherwise. */
  readonly lanes: readonly string[];
  /** CROSSING_FIELDS numbers each, in the order in which they were done. */
  readonly crossings: Float64Array;
  /** LAUNCH_FIELDS numbers each, likewise. */
  readonly launches: Float64Array;
  /** What found no room, and is in neither. */
  readonly dropped: number;
}

/** Index in `lanes`, index in the ledger's ACCOUNTS, then as the names say. */
export const CROSSING = {
  lane: 0,
  account: 1,
  issuedNs: 2,
  startedNs: 3,
  completedNs: 4,
  bytes: 5,
  /** Of the time from start to completion, what the toll takes, by what is known of the bridge. */
  tollNs: 6,
  /** For which the issuing thread stood still. */
  blockedNs: 7,
} as const;
export const CROSSING_FIELDS = 8;

/** Started and done, in ns, then decode steps, rows and tokens of prompts. */
export const LAUNCH_FIELDS = 5;
