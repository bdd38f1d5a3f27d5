/**
 * What can be wrong with a request's text. Closed. What is wrong with the model's own files is a
 * ModelError.
 */
export type TextErrorCode =
  /** The text cannot be expressed in the model's vocabulary. */
  | 'unencodable'
  /** The model has no chat template, or none of the name asked for. */
  | 'no-template'
  /** The template refuses this conversation, by its own raise_exception. */
  | 'template-refused'
  /** The template does not parse, or fails on this conversation. */
  | 'template-failed'
  /** The template takes more steps, text or nesting than allowed, on this conversation. */
  | 'template-too-costly'
  /** What came of the request could not be kept apart from the template, as it was to be. */
  | 'not-literal'
  /** A template variable of the request collides with one that is always set. */
  | 'bad-variable';

/**
 * The border between text and tokens. The message is fit for a client and never quotes prompt text.
 */
export class TextError extends Error {
  override readonly name = 'TextError';
  readonly code: TextErrorCode;

  constructor(code: TextErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
