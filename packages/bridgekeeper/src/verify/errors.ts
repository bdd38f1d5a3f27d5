type VerifyErrorCode = 'not-found' | 'too-large' | 'unreachable' | 'unreadable' | 'empty';

/** What was to be verified cannot be read. Exit code 2. */
export class VerifyError extends Error {
  override readonly name = 'VerifyError';
  readonly code: VerifyErrorCode;

  constructor(code: VerifyErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
