/** What can go wrong while a bundle is made or verified. Closed. */
export type BundleErrorCode =
  | 'bad-kernel'
  | 'bad-node'
  | 'changed'
  | 'file-changed'
  | 'no-compiler'
  | 'not-built'
  | 'not-installed'
  | 'path-too-long'
  | 'too-large'
  | 'unreadable';

/** Says what was wrong, where, and what to do. */
export class BundleError extends Error {
  override readonly name = 'BundleError';
  readonly code: BundleErrorCode;

  constructor(code: BundleErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
