/**
 * - in-use: another process writes to that file.
 * - bad-file: it cannot be opened, or is something else.
 * - bad-key: the signing key beside it cannot be used, or is missing.
 * - broken-tail: its end is not what its signed head says, or one of both is missing.
 * - failed: the thread that keeps the receipts is gone.
 */
export type ReceiptsErrorCode = 'in-use' | 'bad-file' | 'bad-key' | 'broken-tail' | 'failed';

/** The border of the receipts' keeping. The message says which file and what to do. */
export class ReceiptsError extends Error {
  override readonly name = 'ReceiptsError';
  readonly code: ReceiptsErrorCode;

  constructor(code: ReceiptsErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
