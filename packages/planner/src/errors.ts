/** What can be wrong with what a plan is asked for. Closed. */
export type PlanErrorCode =
  | 'unknown-model'
  | 'unknown-gpu'
  | 'unknown-engine'
  | 'bad-model'
  | 'bad-workload'
  | 'does-not-fit'
  | 'bad-combination';

/** A plan that cannot be made. The message says what is wrong, where, and what would be right. */
export class PlanError extends Error {
  override readonly name = 'PlanError';
  readonly code: PlanErrorCode;

  constructor(code: PlanErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
