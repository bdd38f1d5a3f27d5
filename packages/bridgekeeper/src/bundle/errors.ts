/** What can go wrong while a bundle is made. Closed. */
export type BundleErrorCode =
  | 'bad-kernel'
  | 'bad-node'
  | 'file-changed'
  | 'no-compiler'
  | 'not-built'
  | 'not-installed'
  | 'path-too-long'
  | 'too-large';

/** Says what was wrong, where, and what to do. */
export class BundleError extends Error {
  override readonly name = 'BundleError';
  readonly code: BundleErrorCode;

  constructor(code: BundleErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
