type BenchErrorCode = 'unreachable' | 'not-ready';

/** What is to be measured is not there, or not ready. Exit code 1. */
export class BenchError extends Error {
  override readonly name = 'BenchError';
  readonly code: BenchErrorCode;

  constructor(code: BenchErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
