/**
 * A value that was settled when the program started, and why: by the operator's flag, or from what
 * the machine is. Logged at start and shown at /v1/bridge.
 */
export interface Decision<T> {
  readonly value: T;
  readonly reason: string;
}
