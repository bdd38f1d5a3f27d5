/**
 * - `malformed`: not as its format says.
 * - `unsupported`: keys or algorithms that are not spoken here.
 * - `not-genuine`: it was not sealed with this key, in this order, or was changed since.
 * - `truncated`: it ended before its end.
 * - `too-large`: over its limit.
 */
export type EnvelopeErrorCode =
  | 'malformed'
  | 'unsupported'
  | 'not-genuine'
  | 'truncated'
  | 'too-large';

/** An envelope that cannot be opened. Messages hold nothing of what is inside. */
export class EnvelopeError extends Error {
  override readonly name = 'EnvelopeError';
  readonly code: EnvelopeErrorCode;

  constructor(code: EnvelopeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
