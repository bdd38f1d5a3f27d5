export type ChatErrorCode = 'unreachable' | 'refused' | 'broken';

/** A server that `chat` could not talk to. */
export class ChatError extends Error {
  override readonly name = 'ChatError';
  readonly code: ChatErrorCode;

  constructor(code: ChatErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
