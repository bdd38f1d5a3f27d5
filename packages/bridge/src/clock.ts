import { Later } from './later.ts';

/**
 * Time as the whole house sees it: nanoseconds on a monotonic clock, as a Number (exact for 104
 * days). Real and virtual clocks live in the device package; nothing else may read the time.
 */
export interface Clock {
  nowNs(): number;
  /** Resolves once `nowNs() >= wakeNs`. */
  sleepUntilNs(wakeNs: number): Promise<void>;
  /** The same for routines, where a clock has a cheaper way: `later` is resolved then. */
  resolveAt?(wakeNs: number, later: Later<unknown>): void;
}

/** Settled once `clock.nowNs() >= wakeNs`: for routines. */
export function wakeAt(clock: Clock, wakeNs: number): PromiseLike<void> {
  if (clock.resolveAt === undefined) return clock.sleepUntilNs(wakeNs);
  const later = new Later<void>();
  clock.resolveAt(wakeNs, later);
  return later;
}
