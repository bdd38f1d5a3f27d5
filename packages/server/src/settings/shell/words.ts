/** One word of a command line. */
export interface Word {
  /** What the program is given: quotes and escapes resolved, `$` expansions as they stand. */
  readonly text: string;
  /** Where it stands in the source: from `start` up to, not including, `end`. */
  readonly start: number;
  readonly end: number;
}

/** One simple command, split as a POSIX shell splits it. */
export interface ShellCommand {
  readonly source: string;
  readonly words: readonly Word[];
}

export type CommandErrorCode =
  | 'empty'
  | 'unclosed'
  | 'several-commands'
  | 'unsupported'
  | 'no-engine';

/** A command that cannot be examined. The message names a position, never the text. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly code: CommandErrorCode;

  constructor(code: CommandErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Splits one simple command: quotes, escapes, line continuations, comments. Redirections and a
 * closing `&` end the words and stay in the source. Throws CommandError for anything a reader could
 * take for more than one command.
 */
export function splitWords(source: string): ShellCommand {
  const scanner = new Scanner(source);
  const words: Word[] = [];
  for (let word = scanner.next(); word !== null; word = scanner.next()) words.push(word);
  scanner.expectEnd();
  if (words.length === 0) throw new CommandError('empty', 'the command is empty');
  return { source, words };
}

const BLANK = /[ \t\r]/;
const ENDS_WORD = /[ \t\r\n|&;<>()]/;

class Scanner {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
    this.#skipLines();
  }

  /** The next word, or null where the words end. */
  next(): Word | null {
    this.#skipBlank();
    const start = this.#at;
    if (start >= this.#source.length || ENDS_WORD.test(this.#source[start]!)) return null;
    let text = '';
    while (this.#at < this.#source.length && !ENDS_WORD.test(this.#source[this.#at]!)) {
      text += this.#piece();
    }
    // The 2 of `2>file` is part of the redirection.
    const isDescriptor = /^\d+$/.test(this.#source.slice(start, this.#at));
    if (isDescriptor && /[<>]/.test(this.#source[this.#at] ?? '')) {
      this.#at = start;
      return null;
    }
    return { text, start, end: this.#at };
  }

  /** Accepts redirections, a closing `&` or `;`, blank lines and comments. */
  expectEnd(): void {
    while (this.#at < this.#source.length) {
      const redirection = /^\d*(?:>>|>\||[<>]&|[<>]|&>>|&>)/.exec(this.#source.slice(this.#at));
      if (redirection !== null) {
        this.#at += redirection[0].length;
        if (this.next() === null) throw this.#error('unclosed', 'a redirection without its file');
      } else if (/^(?:&(?!&)|;|\n)/.test(this.#source.slice(this.#at))) {
        this.#at++;
        this.#skipLines();
        if (this.#at < this.#source.length) throw this.#several();
      } else {
        throw this.#several();
      }
      this.#skipBlank();
    }
  }

  /** One character, escape, quoted part or expansion of a word. */
  #piece(): string {
    const character = this.#source[this.#at]!;
    switch (character) {
      case '\\':
        return this.#escape();
      case "'":
        return this.#upTo("'", 1).slice(1, -1);
      case '"':
        return this.#doubleQuoted();
      case '`':
        return this.#upTo('`', 1);
      case '$':
        return this.#expansion();
      default:
        this.#at++;
        return character;
    }
  }

  #escape(): string {
    const escaped = this.#source[this.#at + 1];
    if (escaped === undefined) throw this.#error('unclosed', 'a backslash with nothing behind it');
    this.#at += 2;
    return escaped === '\n' ? '' : escaped;
  }

  #doubleQuoted(): string {
    const open = this.#at++;
    let text = '';
    for (;;) {
      const character = this.#source[this.#at];
      if (character === undefined) {
        this.#at = open;
        throw this.#error('unclosed', 'a double quote that is not closed');
      }
      if (character === '"') break;
      const escaped = this.#source[this.#at + 1];
      if (character === '\\' && escaped !== undefined && '$`"\\\n'.includes(escaped)) {
        text += this.#escape();
      } else if (character === '$' && escaped !== "'") {
        text += this.#expansion();
      } else if (character === '`') {
        text += this.#upTo('`', 1);
      } else {
        text += character;
        this.#at++;
      }
    }
    this.#at++;
    return text;
  }

  /** `$(...)` and `${...}` are kept as they stand, to their balanced end; `$NAME` needs no care. */
  #expansion(): string {
    const start = this.#at;
    const opener = this.#source[start + 1];
    if (opener === "'") throw this.#error('unsupported', "$'...' quoting: use plain quotes");
    if (opener !== '(' && opener !== '{') {
      this.#at++;
      return '$';
    }
    const closer = opener === '(' ? ')' : '}';
    let depth = 0;
    for (; this.#at < this.#source.length; this.#at++) {
      const character = this.#source[this.#at];
      if (character === opener) depth++;
      if (character === closer && --depth === 0) {
        return this.#source.slice(start, ++this.#at);
      }
    }
    this.#at = start;
    throw this.#error('unclosed', `$${opener} that is not closed`);
  }

  /** From here to the next `mark` at least `skip` further, both included. */
  #upTo(mark: string, skip: number): string {
    const start = this.#at;
    const end = this.#source.indexOf(mark, start + skip);
    if (end === -1) throw this.#error('unclosed', `${mark} that is not closed`);
    this.#at = end + 1;
    return this.#source.slice(start, this.#at);
  }

  /** Over blanks, continued lines, and a comment. */
  #skipBlank(): void {
    for (;;) {
      const character = this.#source[this.#at];
      if (character === undefined) return;
      if (BLANK.test(character)) this.#at++;
      else if (character === '\\' && this.#source[this.#at + 1] === '\n') this.#at += 2;
      else if (character === '#') this.#skipComment();
      else return;
    }
  }

  #skipLines(): void {
    this.#skipBlank();
    while (this.#source[this.#at] === '\n') {
      this.#at++;
      this.#skipBlank();
    }
  }

  #skipComment(): void {
    const end = this.#source.indexOf('\n', this.#at);
    this.#at = end === -1 ? this.#source.length : end;
  }

  #several(): CommandError {
    const what = 'more than the one command that starts the engine (;, &&, |, parentheses)';
    return this.#error('several-commands', `${what}: give that command alone`);
  }

  #error(code: CommandErrorCode, what: string): CommandError {
    const before = this.#source.slice(0, this.#at).split('\n');
    const column = before[before.length - 1]!.length + 1;
    return new CommandError(code, `line ${before.length}, column ${column}: ${what}`);
  }
}
