/** What can go wrong at the border to a device. Closed. */
export type DeviceErrorCode =
  | 'library-missing'
  | 'no-device'
  | 'unsupported'
  | 'out-of-memory'
  | 'too-many-contexts'
  | 'forbidden-under-cc'
  | 'bad-argument'
  | 'compile-failed'
  | 'launch-failed'
  /** A copy that waits for nothing did not end. */
  | 'stalled'
  | 'closed';

/** Says what was wrong, where, and what to do. Never carries bytes of a buffer. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError';
  readonly code: DeviceErrorCode;

  constructor(code: DeviceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
