/** What the client saw of one request. Times are of the run's clock. */
export interface Outcome {
  /** When the load asked for it. */
  readonly arrivedNs: number;
  /** When it was sent: later than its arrival where it waited for --max-concurrency. */
  readonly startedNs: number;
  /** When each chunk with output came. */
  readonly chunkNs: readonly number[];
  /** As the server counted; undefined where it did not say. */
  readonly completionTokens: number | undefined;
  /** As the server counted, or else as the workload did; undefined where neither did. */
  readonly promptTokens: number | undefined;
  /** Why it failed; undefined where it did not. */
  readonly fault: Fault | undefined;
}

/** A failure, without any text of prompt or answer. */
export interface Fault {
  /** The same for all that failed in the same way. */
  readonly reason: string;
  /** What the server said about this one, where that may be repeated. */
  readonly detail: string | undefined;
}

/** All requests of a run, in the order they were sent in. */
export interface RunOutcome {
  readonly outcomes: readonly Outcome[];
  readonly durationNs: number;
}
