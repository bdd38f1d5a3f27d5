/** Closed: why control, or an agent of it, did not do something. Callers switch on it. */
export type ControlErrorCode =
  // Of a request.
  | 'bad-request'
  | 'unauthenticated'
  | 'forbidden'
  | 'not-found'
  | 'conflict' // another version, name or operation is there
  | 'over-quota'
  | 'does-not-fit' // `nearest` has the nearest miss
  | 'plan-expired'
  | 'too-large'
  | 'busy' // what was asked takes too long, or too much is asked at once
  // Of control itself.
  | 'not-leader' // another control leads, or none does
  | 'outcome-unknown' // it may or may not have been written: repeat it with its key
  // Of its store.
  | 'store-unavailable'
  | 'store-broken'
  | 'fenced' // another control has led since
  // Of an agent and its host.
  | 'stale' // an older leader's, or an older message
  | 'host-lied' // it said what cannot be
  | 'vmm-refused'
  | 'vmm-unavailable'
  | 'join-refused';

interface Nearest {
  readonly host: string;
  readonly cause: string;
  readonly lift?: string | null | undefined;
}

export interface ControlErrorOptions extends ErrorOptions {
  readonly nearest?: Nearest | null;
}

/** The border of the package. The message says what was wrong, where, and what to do. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  readonly code: ControlErrorCode;
  readonly nearest: Nearest | null;

  constructor(code: ControlErrorCode, message: string, options?: ControlErrorOptions) {
    super(message, options);
    this.code = code;
    this.nearest = options?.nearest ?? null;
  }
}
