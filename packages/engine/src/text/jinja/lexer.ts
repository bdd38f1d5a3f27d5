import { JinjaError } from './errors.ts';
import { PYTHON_SPACE, trimEnd } from './text.ts';

export type Token =
  /** `text` is the mark without its sign for whitespace: `{{`, `}}`, `{%`, `%}`. */
  | { readonly type: 'mark' | 'operator' | 'name' | 'string' | 'data'; readonly text: string }
  | { readonly type: 'integer'; readonly text: string; readonly value: bigint }
  | { readonly type: 'float'; readonly text: string; readonly value: number }
  | { readonly type: 'end'; readonly text: '' };

const RAW_BEGIN = new RegExp(
  `\\{%[-+]?${PYTHON_SPACE}*raw${PYTHON_SPACE}*(?:-%\\}${PYTHON_SPACE}*|%\\})`,
  'y',
);
const RAW_END = new RegExp(
  `\\{%([-+]?)${PYTHON_SPACE}*endraw${PYTHON_SPACE}*(?:\\+%\\}|-%\\}${PYTHON_SPACE}*|%\\}\\n?)`,
  'g',
);
const COMMENT_END = new RegExp(`\\+#\\}|-#\\}${PYTHON_SPACE}*|#\\}\\n?`, 'g');
/** trim_blocks: the line break after a block belongs to it, unless a plus keeps it. */
const BLOCK_END = new RegExp(`\\+%\\}|-%\\}${PYTHON_SPACE}*|%\\}\\n?`, 'y');
const VARIABLE_END = new RegExp(`-\\}\\}${PYTHON_SPACE}*|\\}\\}`, 'y');

const SPACES = new RegExp(`${PYTHON_SPACE}+`, 'y');
const ONLY_SPACES = new RegExp(`^${PYTHON_SPACE}+$`);
const DIGITS = '(?:\\d+_)*\\d+';
const FLOAT = new RegExp(
  `(?<!\\.)${DIGITS}(?:(?:\\.${DIGITS})?e[+-]?${DIGITS}|\\.${DIGITS})`,
  'iy',
);
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const NAME = /[\p{ID_Continue}_]+/uy;
const IDENTIFIER = /^[\p{ID_Start}_]/u;
const OPERATOR = /\/\/|\*\*|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;
const CLOSED_BY: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Splits a template, as Jinja2 does with trim_blocks and lstrip_blocks. Throws JinjaError. */
export function tokenize(template: string): Token[] {
  return new Lexer(template).run();
}

class Lexer {
  readonly #text: string;
  readonly #tokens: Token[] = [];
  #at = 0;
  /** Whether what was read last ended a line. */
  #startsLine = true;

  constructor(template: string) {
    this.#text = template.replace(/\r\n?/g, '\n').replace(/\n$/, '');
  }

  run(): Token[] {
    while (this.#at < this.#text.length) this.#readText();
    this.#tokens.push({ type: 'end', text: '' });
    return this.#tokens;
  }

  /** Text up to the next mark, and what that mark opens. */
  #readText(): void {
    const open = this.#nextMark();
    if (open === undefined) {
      this.#pushData(this.#text.slice(this.#at));
      this.#at = this.#text.length;
      return;
    }
    const kind = this.#text[open + 1]!;
    const next = this.#text[open + 2]!;
    const sign = next === '-' || next === '+' ? next : '';
    this.#pushData(this.#stripped(this.#text.slice(this.#at, open), sign, kind !== '{'));
    this.#at = open;
    const isRaw = kind === '%' && this.#match(RAW_BEGIN) !== undefined;
    if (!isRaw) this.#at = open + 2 + sign.length;
    if (isRaw) this.#readRaw();
    else if (kind === '#') this.#skipComment();
    else this.#readCode(kind === '{' ? '{{' : '{%');
  }

  #nextMark(): number | undefined {
    for (
      let at = this.#text.indexOf('{', this.#at);
      at >= 0;
      at = this.#text.indexOf('{', at + 1)
    ) {
      const next = this.#text[at + 1];
      if (next === '{' || next === '%' || next === '#') return at;
    }
    return undefined;
  }

  /** `text` before a mark with that sign: a minus strips all space, a block what indents it. */
  #stripped(text: string, sign: string, isBlock: boolean): string {
    if (sign === '-') return trimEnd(text);
    if (sign === '+' || !isBlock) return text;
    const line = text.lastIndexOf('\n') + 1;
    if (line === 0 && !this.#startsLine) return text;
    return ONLY_SPACES.test(text.slice(line)) ? text.slice(0, line) : text;
  }

  #readRaw(): void {
    const from = this.#at;
    // Unlike after other blocks, a line break after {% raw %} is text.
    this.#startsLine = this.#text[from - 1] === '\n';
    const end = this.#find(RAW_END, 'a {% raw %} block');
    this.#pushData(this.#stripped(this.#text.slice(from, end.index), end[1]!, true));
    this.#finish(end);
  }

  #skipComment(): void {
    this.#finish(this.#find(COMMENT_END, 'a comment'));
  }

  #find(end: RegExp, what: string): RegExpExecArray {
    end.lastIndex = this.#at;
    const found = end.exec(this.#text);
    if (found === null) throw new JinjaError('syntax', `${what} is not closed`);
    return found;
  }

  #finish(end: RegExpExecArray): void {
    this.#at = end.index + end[0].length;
    this.#startsLine = end[0].endsWith('\n');
  }

  #readCode(mark: '{{' | '{%'): void {
    this.#push('mark', mark);
    const [end, endMark] = mark === '{{' ? [VARIABLE_END, '}}'] : [BLOCK_END, '%}'];
    const open: string[] = [];
    while (this.#at < this.#text.length) {
      // Within brackets, }} closes two of them.
      const closed = open.length === 0 ? this.#match(end) : undefined;
      if (closed !== undefined) {
        this.#startsLine = closed.endsWith('\n');
        this.#push('mark', endMark);
        return;
      }
      if (this.#match(SPACES) === undefined) this.#readToken(open);
    }
    throw new JinjaError('syntax', `${mark} is not closed`);
  }

  #readToken(open: string[]): void {
    const float = this.#match(FLOAT);
    if (float !== undefined) {
      const value = Number(float.replaceAll('_', ''));
      this.#tokens.push({ type: 'float', text: float, value });
      return;
    }
    const integer = this.#match(INTEGER);
    if (integer !== undefined) {
      const value = BigInt(integer.replaceAll('_', ''));
      this.#tokens.push({ type: 'integer', text: integer, value });
      return;
    }
    const name = this.#match(NAME);
    if (name !== undefined) {
      if (!IDENTIFIER.test(name)) throw new JinjaError('syntax', `"${name}" is no name`);
      this.#push('name', name);
      return;
    }
    const first = this.#text[this.#at]!;
    if (first === '"' || first === "'") {
      this.#readString(first);
      return;
    }
    const operator = this.#match(OPERATOR);
    if (operator === undefined) throw new JinjaError('syntax', `${first} is not expected`);
    const closing = CLOSED_BY[operator];
    if (closing !== undefined) open.push(closing);
    else if (operator === ')' || operator === ']' || operator === '}') {
      if (open.pop() !== operator) throw new JinjaError('syntax', `${operator} closes nothing`);
    }
    this.#push('operator', operator);
  }

  #readString(quote: string): void {
    let end = this.#at + 1;
    while (this.#text[end] !== quote) {
      if (end >= this.#text.length) throw new JinjaError('syntax', 'a string is not closed');
      end += this.#text[end] === '\\' ? 2 : 1;
    }
    this.#push('string', unescaped(this.#text.slice(this.#at + 1, end)));
    this.#at = end + 1;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #pushData(text: string): void {
    if (text !== '') this.#push('data', text);
  }

  #push(type: 'mark' | 'operator' | 'name' | 'string' | 'data', text: string): void {
    this.#tokens.push({ type, text });
  }
}

const ESCAPE = /\\(?:([0-7]{1,3})|x([\da-f]{2})|u([\da-f]{4})|U([\da-f]{8})|([\s\S]))/gi;
const SIMPLE: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** The escapes of Python's string literals. */
function unescaped(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(ESCAPE, (whole, octal, x, u, long, other) => {
    if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
    // Only the capital U takes eight digits, and only small x and u are escapes.
    const hex = whole[1] === 'U' ? long : (x ?? u);
    if (hex !== undefined && 'xuU'.includes(whole[1]!)) {
      const code = Number.parseInt(hex, 16);
      if (code > 0x10ffff) throw new JinjaError('syntax', 'a string names no character');
      return String.fromCodePoint(code);
    }
    if (other !== undefined && 'xuUN'.includes(other)) {
      throw new JinjaError('syntax', `\\${other} in a string is not complete or not supported`);
    }
    return SIMPLE[other] ?? whole;
  });
}
