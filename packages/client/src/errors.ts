import type { VerifyResult } from '@bridgekeeper/attest';

/**
 * - `bad-address`: no address, or one whose connection cannot be pinned.
 * - `elsewhere`: a request for another server than the one that was verified.
 * - `unreachable`: no connection, no answer in time, or an answer that is no report.
 * - `unreadable`: the report is not one.
 * - `refused`: the report was verified and the policy refuses it; `result` says why.
 * - `nothing-to-pin`: the report proves no key that a request could be sent to.
 * - `key-changed`: the server's key is no longer the one that was verified.
 * - `not-genuine`: an answer that the server did not seal, or that breaks off.
 * - `too-large`: a request or a report over its limit.
 * - `closed`: the connection was closed by its user.
 */
export type ClientErrorCode =
  | 'bad-address'
  | 'elsewhere'
  | 'unreachable'
  | 'unreadable'
  | 'refused'
  | 'nothing-to-pin'
  | 'key-changed'
  | 'not-genuine'
  | 'too-large'
  | 'closed';

/** Why nothing was sent, or why what was sent has no answer. Messages hold nothing of requests. */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly code: ClientErrorCode;
  /** What verification said, where it came to a verdict. */
  readonly result: VerifyResult | null;

  constructor(
    code: ClientErrorCode,
    message: string,
    options: ErrorOptions & { readonly result?: VerifyResult } = {},
  ) {
    super(message, options);
    this.code = code;
    this.result = options.result ?? null;
  }
}
