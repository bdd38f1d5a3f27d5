/** Closed: why evidence cannot be read or is refused. Policies and tests switch on it. */
export type AttestErrorCode =
  // It cannot be read.
  | 'malformed'
  | 'trailing-bytes'
  | 'too-large'
  | 'unsupported-version'
  | 'unsupported-algorithm'
  // It is refused.
  | 'signature-invalid'
  | 'chain-broken'
  | 'root-not-pinned'
  | 'certificate-expired'
  | 'certificate-revoked'
  | 'certificate-held'
  | 'revocation-unknown'
  | 'nonce-mismatch'
  | 'not-compared'
  | 'not-current'
  | 'identity-mismatch'
  | 'firmware-mismatch'
  | 'measurement-mismatch'
  | 'reference-missing'
  | 'reference-conflict'
  | 'topology-mismatch'
  | 'set-incomplete'
  | 'mode-refused'
  | 'devtools-enabled'
  | 'debug-enabled'
  | 'tcb-refused'
  | 'collateral-expired'
  | 'event-log-mismatch'
  | 'binding-mismatch'
  | 'token-refused'
  | 'receipt-broken'
  | 'not-available';

/**
 * The border of the package: evidence that cannot be read or must be refused. The message says
 * what is wrong and where; it never holds key material or prompts.
 */
export class AttestError extends Error {
  override readonly name = 'AttestError';
  readonly code: AttestErrorCode;

  constructor(code: AttestErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Throws a refusal unless `holds`. */
export function demand(holds: boolean, code: AttestErrorCode, message: string): asserts holds {
  if (!holds) throw new AttestError(code, message);
}

/** A file that was given and could not be read. */
export interface UnreadableFile {
  readonly name: string;
  readonly code: AttestErrorCode;
  /** Names the file. */
  readonly message: string;
}
