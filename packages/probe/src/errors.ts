export type ProbeErrorCode =
  /** There is no GPU. */
  | 'no-gpu'
  /** Confidential computing is on, and the GPU takes no work before it is set ready. */
  | 'not-ready'
  /** Other processes use the GPU. */
  | 'gpu-in-use';

/** Why nothing was measured. The message says what to do. */
export class ProbeError extends Error {
  override readonly name = 'ProbeError';
  readonly code: ProbeErrorCode;

  constructor(code: ProbeErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export type CompareErrorCode =
  | 'not-json'
  | 'not-a-result'
  | 'bad-profile'
  /** The probe ended before it had one. */
  | 'no-profile';

/** Why a file cannot be compared. The message names it. */
export class CompareError extends Error {
  override readonly name = 'CompareError';
  readonly code: CompareErrorCode;

  constructor(code: CompareErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
