export type JinjaErrorCode =
  /** The template is no Jinja. */
  | 'syntax'
  /** What the template does fails in Python, or is one of the few things that this engine lacks. */
  | 'runtime'
  /** More steps, text or nesting than `Budget` grants. */
  | 'limit';

/**
 * What can go wrong with a template. The message names types and the template's own identifiers,
 * never a value: values are conversations.
 */
export class JinjaError extends Error {
  override readonly name = 'JinjaError';
  readonly code: JinjaErrorCode;

  constructor(code: JinjaErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Throws what Python would raise at this point. */
export function fail(message: string): never {
  throw new JinjaError('runtime', message);
}
