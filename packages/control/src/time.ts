/** Time as control needs it; virtual in simulations. */
export interface Time {
  /** Milliseconds since 1970. */
  readonly nowMs: () => number;
  /** Resolves after that time, or once the signal aborts. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
}
