import { GrammarError } from './errors.ts';
import type { CodePointRange, Expression, Grammar } from './expression.ts';
import { regularExpression } from './regular-expression.ts';
import { quote } from './rules.ts';
import { mergeRanges } from './utf8.ts';

/** UTF-16 units of a grammar's text. */
const MAX_GRAMMAR_LENGTH = 512 * 1024;
const MAX_NESTING = 200;
const MAX_RULES = 20_000;
const MAX_REPEATS = 2 ** 31;
const LAST_CODE_POINT = 0x10ffff;

/** Between the tokens of a Lark grammar: no name of a rule can be this. */
const IGNORED = '%ignore';

/**
 * How rules are written. `gbnf`: `name ::= ...`, as llama.cpp and XGrammar do, from `root`. `lark`:
 * `name: ...`, as Lark does, from `start`.
 */
type Dialect = 'gbnf' | 'lark';

/**
 * A grammar in EBNF. The dialect is told by how the first rule is written. What is supported of
 * both is in docs/reference/grammars.md; all else is refused.
 *
 * Throws GrammarError.
 */
export function ebnfGrammar(source: string): Grammar {
  if (source.length > MAX_GRAMMAR_LENGTH) {
    throw new GrammarError(
      'too-large',
      `a grammar of ${source.length} characters; ${MAX_GRAMMAR_LENGTH} is the most`,
    );
  }
  return new EbnfParser(source, source.includes('::=') ? 'gbnf' : 'lark').parse();
}

const HEADS: Readonly<Record<Dialect, RegExp>> = {
  gbnf: /([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\s*::=/y,
  lark: /[?!]{0,2}(_{0,2}[A-Za-z][A-Za-z0-9_]*)(?:\.-?[0-9]+)?\s*:(?!:=)/y,
};
const NAMES: Readonly<Record<Dialect, RegExp>> = {
  gbnf: /[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*/y,
  lark: /_{0,2}[A-Za-z][A-Za-z0-9_]*/y,
};
const SPACES: Readonly<Record<Dialect, RegExp>> = {
  gbnf: /(?:\s|#[^\n]*)*/y,
  lark: /(?:\s|\/\/[^\n]*|#[^\n]*)*/y,
};
const ROOTS: Readonly<Record<Dialect, string>> = { gbnf: 'root', lark: 'start' };

class EbnfParser {
  readonly #source: string;
  readonly #dialect: Dialect;
  readonly #rules = new Map<string, Expression>();
  readonly #ignored: Expression[] = [];
  #at = 0;
  #depth = 0;
  /** Within a rule of Lark, where what is ignored may follow each token; not within a terminal. */
  #isSpaced = false;

  constructor(source: string, dialect: Dialect) {
    this.#source = source;
    this.#dialect = dialect;
  }

  parse(): Grammar {
    const isLark = this.#dialect === 'lark';
    for (this.#skip(); this.#at < this.#source.length; this.#skip()) {
      if (isLark && this.#source[this.#at] === '%') this.#directive();
      else this.#rule();
    }
    const root = ROOTS[this.#dialect];
    if (!this.#rules.has(root)) {
      throw new GrammarError('unknown-rule', `the grammar has no rule called ${quote(root)}`);
    }
    const start: Expression = { kind: 'rule', name: root };
    if (!isLark) return { root: start, rules: this.#rules };
    const between = choiceOf(this.#ignored);
    this.#rules.set(IGNORED, {
      kind: 'repeat',
      body: between,
      min: 0,
      max: this.#ignored.length > 0 ? undefined : 0,
    });
    return { root: sequenceOf([{ kind: 'rule', name: IGNORED }, start]), rules: this.#rules };
  }

  #refuse(what: string, code: 'syntax' | 'unsupported' = 'syntax'): never {
    const before = this.#source.slice(0, this.#at).split('\n');
    const column = (before.at(-1)?.length ?? 0) + 1;
    throw new GrammarError(code, `line ${before.length}, column ${column} of the grammar: ${what}`);
  }

  #unsupported(what: string): never {
    return this.#refuse(`${what} is not supported`, 'unsupported');
  }

  /** What `pattern`, which is sticky, matches here; undefined where it does not. */
  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#source) ?? undefined;
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    const match = this.#match(pattern);
    if (match !== undefined) this.#at += match[0].length;
    return match;
  }

  #takeText(text: string): boolean {
    const isNext = this.#source.startsWith(text, this.#at);
    if (isNext) this.#at += text.length;
    return isNext;
  }

  #skip(): void {
    this.#take(SPACES[this.#dialect]);
  }

  #rule(): void {
    const start = this.#at;
    const [, name] = this.#take(HEADS[this.#dialect]) ?? this.#refuse('a rule begins otherwise');
    if (name === undefined) return;
    if (this.#rules.has(name)) {
      this.#at = start;
      this.#refuse(`rule ${quote(name)} is there twice`);
    }
    if (this.#rules.size >= MAX_RULES) {
      throw new GrammarError('too-large', `a grammar of more than ${MAX_RULES} rules`);
    }
    this.#isSpaced = this.#dialect === 'lark' && name !== name.toUpperCase();
    this.#rules.set(name, withoutLeftRecursion(name, this.#choice()));
    const isEnd = this.#at === this.#source.length || this.#startsRule();
    if (!isEnd) this.#refuse('this belongs to no rule');
  }

  #startsRule(): boolean {
    if (this.#dialect === 'lark' && this.#source[this.#at] === '%') return true;
    return this.#match(HEADS[this.#dialect]) !== undefined;
  }

  #directive(): void {
    if (this.#take(/%ignore\b/y) !== undefined) {
      this.#skip();
      this.#isSpaced = false;
      this.#ignored.push(this.#choice());
      return;
    }
    const imported = this.#take(
      /%import[ \t]+common(?:\.([A-Z_]+)(?:[ \t]*->[ \t]*([A-Za-z_]+))?|[ \t]*\(([A-Z_, \t]+)\))/y,
    );
    if (imported === undefined) this.#unsupported('this directive');
    const [, name, as, list] = imported;
    const names = name === undefined ? (list ?? '').split(',').map((each) => each.trim()) : [name];
    for (const each of names) {
      const pattern = COMMON_TERMINALS.get(each);
      if (pattern === undefined) this.#unsupported(`the terminal ${quote(each)} of Lark's own`);
      this.#rules.set(as ?? each, regularExpression(pattern, 'whole'));
    }
  }

  #choice(): Expression {
    this.#depth += 1;
    if (this.#depth > MAX_NESTING) {
      throw new GrammarError('too-large', `a grammar nests deeper than ${MAX_NESTING} groups`);
    }
    const options: Expression[] = [];
    do {
      this.#skip();
      options.push(this.#sequence());
    } while (this.#takeText('|'));
    this.#depth -= 1;
    return choiceOf(options);
  }

  #sequence(): Expression {
    const parts: Expression[] = [];
    for (;;) {
      const next = this.#source[this.#at];
      if (next === undefined || '|)'.includes(next) || this.#startsRule()) break;
      if (next === ']' && this.#dialect === 'lark') break;
      if (this.#dialect === 'lark' && this.#take(/->\s*[A-Za-z_]\w*/y) !== undefined) {
        this.#skip();
        break;
      }
      parts.push(this.#quantified(this.#primary()));
      this.#skip();
    }
    return sequenceOf(parts);
  }

  #quantified(primary: Expression): Expression {
    let body = primary;
    for (;;) {
      const start = this.#at;
      this.#skip();
      const bounds = this.#startsRule() ? undefined : this.#bounds();
      if (bounds === undefined) {
        this.#at = start;
        return body;
      }
      body = { kind: 'repeat', body, min: bounds[0], max: bounds[1] };
    }
  }

  #bounds(): readonly [min: number, max: number | undefined] | undefined {
    if (this.#takeText('*')) return [0, undefined];
    if (this.#takeText('+')) return [1, undefined];
    if (this.#takeText('?')) return [0, 1];
    const written =
      this.#dialect === 'gbnf'
        ? this.#take(/\{\s*([0-9]*)\s*(,?)\s*([0-9]*)\s*\}/y)
        : this.#take(/~\s*([0-9]+)(?:\s*(\.\.)\s*([0-9]+))?/y);
    if (written === undefined) return undefined;
    const [, least = '', separator = '', most = ''] = written;
    if (least === '' && most === '') this.#refuse('bounds without a number');
    const min = Number(least);
    const max = separator === '' ? min : most === '' ? undefined : Number(most);
    if (max !== undefined && max < min) this.#refuse('bounds out of order');
    if (Math.max(min, max ?? 0) > MAX_REPEATS) {
      throw new GrammarError('too-large', `a repeat of more than ${MAX_REPEATS} in a grammar`);
    }
    return [min, max];
  }

  #primary(): Expression {
    const isLark = this.#dialect === 'lark';
    const next = this.#source[this.#at];
    if (next === '(') {
      if (!isLark && this.#match(/\(=/y) !== undefined) this.#unsupported('lookahead');
      return this.#group(')');
    }
    if (next === '[') {
      if (!isLark) return this.#class();
      const body = this.#group(']');
      return { kind: 'repeat', body, min: 0, max: 1 };
    }
    if (next === '"') return this.#spaced(this.#string());
    if (next === '/' && isLark) return this.#spaced(this.#pattern());
    if (!isLark && this.#takeText('.')) return character([[0, LAST_CODE_POINT]]);
    const token = isLark ? undefined : this.#take(/<\[([0-9]{1,7})\]>/y);
    if (token !== undefined) return { kind: 'token', id: Number(token[1]) };
    if (next === '<' || next === '!') this.#unsupported('a token by its text');
    const [name] = this.#take(NAMES[this.#dialect]) ?? this.#refuse('nothing begins like this');
    if (this.#source[this.#at] === '{' && isLark) this.#unsupported('a template');
    if (this.#source[this.#at] === '(' && !isLark) this.#unsupported('a macro');
    const reference: Expression = { kind: 'rule', name };
    return isLark && name === name.toUpperCase() ? this.#spaced(reference) : reference;
  }

  #group(end: ')' | ']'): Expression {
    this.#at += 1;
    const body = this.#choice();
    if (!this.#takeText(end)) this.#refuse(`${end} is missing`);
    return body;
  }

  #spaced(token: Expression): Expression {
    if (!this.#isSpaced) return token;
    return { kind: 'sequence', parts: [token, { kind: 'rule', name: IGNORED }] };
  }

  #string(): Expression {
    const text = this.#quoted();
    if (this.#dialect === 'gbnf') return { kind: 'text', text };
    if (this.#takeText('i')) return sequenceOf([...text].map(eitherCase));
    if (this.#take(/\s*\.\.\s*(?=")/y) === undefined) return { kind: 'text', text };
    const last = this.#quoted();
    const [first, second] = [text, last].map((end) => end.codePointAt(0) ?? 0);
    if ([...text].length !== 1 || [...last].length !== 1) this.#refuse('a range not of characters');
    return character([[first ?? 0, second ?? 0]]);
  }

  #quoted(): string {
    this.#at += 1;
    let text = '';
    while (!this.#takeText('"')) {
      const next = this.#source[this.#at];
      if (next === undefined || next === '\n') this.#refuse('a string does not end');
      text += next === '\\' ? this.#escape() : next;
      if (next !== '\\') this.#at += 1;
    }
    return text;
  }

  /** The character of an escape, also one that needs none. */
  #escape(): string {
    const hex = this.#take(
      /\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|u\{([0-9A-Fa-f]{1,6})\})/y,
    );
    if (hex !== undefined) {
      const code = Number.parseInt(hex.slice(1).find((digits) => digits !== undefined) ?? '', 16);
      if (code > LAST_CODE_POINT) this.#refuse('an escape of no character');
      return String.fromCodePoint(code);
    }
    const point = String.fromCodePoint(this.#source.codePointAt(this.#at + 1) ?? 0x20);
    const control = CONTROLS.get(point);
    if (control === undefined && /^[A-Za-z0-9\s]$/.test(point)) this.#refuse('an unknown escape');
    this.#at += 1 + point.length;
    return control ?? point;
  }

  #class(): Expression {
    this.#at += 1;
    const isNegated = this.#takeText('^');
    const ranges: CodePointRange[] = [];
    while (!this.#takeText(']')) {
      const first = this.#classMember();
      const isRange = this.#match(/-(?!\])/y) !== undefined;
      if (isRange) this.#at += 1;
      const last = isRange ? this.#classMember() : first;
      if (last < first) this.#refuse('a range out of order');
      ranges.push([first, last]);
    }
    if (!isNegated) return character(ranges);
    const rest: CodePointRange[] = [];
    let from = 0;
    for (const [first, last] of mergeRanges(ranges)) {
      rest.push([from, first - 1]);
      from = last + 1;
    }
    return character([...rest, [from, LAST_CODE_POINT]]);
  }

  #classMember(): number {
    const point = this.#source.codePointAt(this.#at);
    if (point === undefined || point === 0x0a) this.#refuse('a class of characters does not end');
    if (point === 0x5c) return this.#escape().codePointAt(0) ?? 0;
    this.#at += point > 0xffff ? 2 : 1;
    return point;
  }

  #pattern(): Expression {
    const [, source = '', flags = ''] =
      this.#take(/\/((?:[^/\\\n]|\\[^\n])+)\/([a-z]*)/y) ??
      this.#refuse('a regular expression does not end');
    if (flags !== '' && flags !== 'u') this.#unsupported('a flag of a regular expression');
    return regularExpression(source, 'whole');
  }
}

const CONTROLS: ReadonlyMap<string, string> = new Map([
  ['0', '\0'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
]);

/** Terminals that Lark has in its own grammar `common`, and what they are. */
const COMMON_TERMINALS: ReadonlyMap<string, string> = new Map([
  ['DIGIT', '[0-9]'],
  ['HEXDIGIT', '[0-9A-Fa-f]'],
  ['INT', '[0-9]+'],
  ['SIGNED_INT', '[+-]?[0-9]+'],
  ['DECIMAL', '[0-9]+\\.[0-9]*|\\.[0-9]+'],
  ['FLOAT', '[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?'],
  [
    'SIGNED_FLOAT',
    '[+-]?(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?)',
  ],
  ['NUMBER', '(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?'],
  ['SIGNED_NUMBER', '[+-]?(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?'],
  ['ESCAPED_STRING', '"(?:[^"\\\\\\n]|\\\\[^\\n])*"'],
  ['LCASE_LETTER', '[a-z]'],
  ['UCASE_LETTER', '[A-Z]'],
  ['LETTER', '[A-Za-z]'],
  ['WORD', '[A-Za-z]+'],
  ['CNAME', '[A-Za-z_][A-Za-z0-9_]*'],
  ['WS_INLINE', '[ \\t]+'],
  ['WS', '[ \\t\\f\\r\\n]+'],
  ['CR', '\\r'],
  ['LF', '\\n'],
  ['NEWLINE', '(?:\\r?\\n)+'],
  ['SH_COMMENT', '#[^\\n]*'],
  ['CPP_COMMENT', '\\/\\/[^\\n]*'],
]);

function character(ranges: readonly CodePointRange[]): Expression {
  return { kind: 'character', ranges };
}

function eitherCase(point: string): Expression {
  const cases = [...new Set([point, point.toLowerCase(), point.toUpperCase()])];
  return choiceOf(cases.map((text) => ({ kind: 'text', text })));
}

function choiceOf(options: readonly Expression[]): Expression {
  return options.length === 1 && options[0] !== undefined
    ? options[0]
    : { kind: 'choice', options };
}

function sequenceOf(parts: readonly Expression[]): Expression {
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : { kind: 'sequence', parts };
}

/**
 * The same texts where a rule begins with itself in so many words, as lists and sums are often
 * written: r: r "," x | x is x ("," x)*.
 */
function withoutLeftRecursion(name: string, body: Expression): Expression {
  const options = body.kind === 'choice' ? body.options : [body];
  const tails: Expression[] = [];
  const others: Expression[] = [];
  for (const option of options) {
    const [first, ...tail] = option.kind === 'sequence' ? option.parts : [option];
    if (first?.kind !== 'rule' || first.name !== name) others.push(option);
    else if (tail.length > 0) tails.push(sequenceOf(tail));
  }
  if (tails.length === 0 || others.length === 0) return body;
  const more: Expression = { kind: 'repeat', body: choiceOf(tails), min: 0, max: undefined };
  return sequenceOf([choiceOf(others), more]);
}
