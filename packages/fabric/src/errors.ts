/** Closed: why the fabric cannot be read, changed or shown. Callers switch on it. */
export type FabricErrorCode =
  // Of Fabric Manager, or of the controller of a rack.
  | 'fm-missing' // its library, or its socket
  | 'fm-unanswered' // no reply in time: what was requested may or may not have happened
  | 'fm-refused' // it answered with a status: `status` has it
  | 'fm-version' // it speaks another version than we do
  | 'fm-out-of-bounds' // a count beyond its array: refused, never clamped
  // Of the log.
  | 'log-unwritable'
  | 'log-broken'
  | 'witness-failed' // it did not cosign: the log goes on, and asks again
  // Of the agent's state.
  | 'disk-full'
  | 'disk-failed'
  | 'state-broken'
  | 'agent-running' // another agent has this host
  // Of what is requested.
  | 'bad-desired'
  | 'stale-epoch'
  | 'bad-plan'
  | 'does-not-fit'
  | 'needs-restart' // of the host
  // Of the host and its virtual machines.
  | 'host-unreadable'
  | 'host-refused'
  | 'vm-failed'
  | 'vm-lost' // it may have run, and is not there
  | 'probe-failed';

export interface FabricErrorOptions extends ErrorOptions {
  /** Fabric Manager's own number, -1 to -29, where it answered with one. */
  readonly status?: number;
}

/** The border of the package. The message says what was wrong, where, and what to do. */
export class FabricError extends Error {
  override readonly name = 'FabricError';
  readonly code: FabricErrorCode;
  readonly status: number | null;

  constructor(code: FabricErrorCode, message: string, options?: FabricErrorOptions) {
    super(message, options);
    this.code = code;
    this.status = options?.status ?? null;
  }
}
