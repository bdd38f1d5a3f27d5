/** What can go wrong at the border to a native library. Closed. */
export type NativeErrorCode =
  | 'library-missing'
  | 'no-device'
  | 'unsupported'
  | 'out-of-memory'
  | 'bad-argument'
  | 'compile-failed'
  /** A call returned a status that means none of the others. */
  | 'call-failed';

/** Says which library or function failed, with its own words, and what to do. */
export class NativeError extends Error {
  override readonly name = 'NativeError';
  readonly code: NativeErrorCode;
  /** What the library's function returned; null when none was called. */
  readonly status: number | null;

  constructor(
    code: NativeErrorCode,
    message: string,
    { status = null, ...options }: ErrorOptions & { readonly status?: number | null } = {},
  ) {
    super(message, options);
    this.code = code;
    this.status = status;
  }
}

/** What a binding throws for a failure: its user's own error, say. */
export type Translate = (error: NativeError) => Error;

export const asItIs: Translate = (error) => error;
