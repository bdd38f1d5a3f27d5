/** What can be wrong with a grammar, or with what it is written in. Closed. */
export type GrammarErrorCode =
  /** A regular expression or an EBNF grammar that does not parse, or a JSON schema that is none. */
  | 'syntax'
  /** It parses, and uses what is not supported, which the message names. */
  | 'unsupported'
  | 'unknown-rule'
  /** A rule that can begin with itself. */
  | 'left-recursion'
  /** Which rule applies, or how often something was repeated, cannot be told byte by byte. */
  | 'ambiguous'
  /** Compiling it takes more states, steps, nesting or memory than allowed. */
  | 'too-large'
  /** No text at all is admitted. */
  | 'empty'
  /** A JSON schema that no value fulfils. The message names what contradicts what. */
  | 'contradiction';

/** The border between what a client wrote and tables; the message is fit for that client. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';
  readonly code: GrammarErrorCode;

  constructor(code: GrammarErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
