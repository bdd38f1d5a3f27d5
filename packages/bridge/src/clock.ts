/**
 * Time as the whole house sees it: nanoseconds on a monotonic clock, as a Number (exact for 104
 * days). Real and virtual clocks live in the device package; nothing else may read the time.
 */
export interface Clock {
  nowNs(): number;
  /** Resolves once `nowNs() >= wakeNs`. */
  sleepUntilNs(wakeNs: number): Promise<void>;
}
