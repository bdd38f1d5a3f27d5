export type GatewayErrorCode =
  /** A table of routes, or the file that keeps it, cannot be read, or is none. */
  | 'bad-table'
  /** Control cannot be reached, or does not answer as it should. */
  | 'no-control';

/** The gateway towards who starts it. Clients see ApiError. */
export class GatewayError extends Error {
  override readonly name = 'GatewayError';
  readonly code: GatewayErrorCode;
  /** That control answered with; null: it did not answer. */
  readonly status: number | null;

  constructor(
    code: GatewayErrorCode,
    message: string,
    options?: ErrorOptions & { readonly status?: number },
  ) {
    super(message, options);
    this.code = code;
    this.status = options?.status ?? null;
  }
}
