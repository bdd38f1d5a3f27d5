export type TopErrorCode = 'unreachable' | 'refused' | 'broken';

/** A server that `top` could not look at. */
export class TopError extends Error {
  override readonly name = 'TopError';
  readonly code: TopErrorCode;

  constructor(code: TopErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
