import { GrammarError } from './errors.ts';
import type { CodePointRange, Expression } from './expression.ts';
import { mergeRanges } from './utf8.ts';

/** UTF-16 units of a pattern. */
const MAX_PATTERN_LENGTH = 64 * 1024;
const MAX_NESTING = 200;
const MAX_REPEATS = 2 ** 31;

const LAST_CODE_POINT = 0x10ffff;
const ANY: Expression = { kind: 'character', ranges: [[0, LAST_CODE_POINT]] };
const ANYTHING: Expression = { kind: 'repeat', body: ANY, min: 0, max: undefined };
const NOTHING: Expression = { kind: 'sequence', parts: [] };

const DIGITS: readonly CodePointRange[] = [[0x30, 0x39]];
const WORD: readonly CodePointRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const LINE_ENDS: readonly CodePointRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
/** ECMAScript's WhiteSpace and LineTerminator. */
const SPACE: readonly CodePointRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];

/**
 * What a regular expression of ECMAScript admits, in unicode mode and without flags. `search`:
 * texts in which it is found, as `pattern` of JSON Schema means it; `whole`: texts that it matches
 * from end to end. Groups of any kind only group, and laziness changes nothing.
 *
 * Throws GrammarError: 'syntax', 'too-large', and 'unsupported' for lookaround, backreferences,
 * word boundaries, inline flags, and anchors that are repeated.
 */
export function regularExpression(pattern: string, match: 'search' | 'whole'): Expression {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw new GrammarError(
      'too-large',
      `a regular expression of ${pattern.length} characters; ${MAX_PATTERN_LENGTH} is the most`,
    );
  }
  const options = anchored(new PatternParser(pattern).parse());
  if (match === 'whole') return choiceOf(options.map(({ expression }) => expression));
  return choiceOf(
    options.map(({ isAtStart, isAtEnd, expression }) =>
      sequenceOf([isAtStart ? NOTHING : ANYTHING, expression, isAtEnd ? NOTHING : ANYTHING]),
    ),
  );
}

type Pattern =
  | { readonly kind: 'set'; readonly ranges: readonly CodePointRange[] }
  | { readonly kind: 'sequence'; readonly parts: readonly Pattern[] }
  | { readonly kind: 'choice'; readonly options: readonly Pattern[] }
  | {
      readonly kind: 'repeat';
      readonly body: Pattern;
      readonly min: number;
      readonly max: number | undefined;
    }
  | { readonly kind: 'anchor'; readonly at: 'start' | 'end' };

/** One way in which a pattern may match, and where it may then be. */
interface Option {
  readonly isAtStart: boolean;
  readonly isAtEnd: boolean;
  readonly expression: Expression;
  readonly canBeEmpty: boolean;
}

/** At most one option for each pair of requirements. */
function anchored(pattern: Pattern): readonly Option[] {
  switch (pattern.kind) {
    case 'set':
      return [option(false, false, { kind: 'character', ranges: pattern.ranges }, false)];
    case 'anchor':
      return [option(pattern.at === 'start', pattern.at === 'end', NOTHING, true)];
    case 'choice':
      return merged(pattern.options.flatMap(anchored));
    case 'sequence': {
      // Long runs without anchors are one sequence, not one within another.
      let before: readonly Option[] = [option(false, false, NOTHING, true)];
      for (const part of pattern.parts) {
        const after = anchored(part);
        before = merged(before.flatMap((left) => after.flatMap((right) => joined(left, right))));
      }
      return before;
    }
    case 'repeat': {
      const { body, min, max } = pattern;
      const options = anchored(body);
      if (options.every(({ isAtStart, isAtEnd }) => !isAtStart && !isAtEnd)) {
        const canBeEmpty = min === 0 || options.some((each) => each.canBeEmpty);
        const repeated = choiceOf(options.map(({ expression }) => expression));
        return [option(false, false, { kind: 'repeat', body: repeated, min, max }, canBeEmpty)];
      }
      if (max === 1) {
        return min === 1 ? options : merged([...options, option(false, false, NOTHING, true)]);
      }
      throw new GrammarError(
        'unsupported',
        'an anchor (^ or $) within a group that is repeated in a regular expression',
      );
    }
  }
}

function option(
  isAtStart: boolean,
  isAtEnd: boolean,
  expression: Expression,
  canBeEmpty: boolean,
): Option {
  return { isAtStart, isAtEnd, expression, canBeEmpty };
}

/** What is before a start is empty, and so is what is behind an end. */
function joined(left: Option, right: Option): Option[] {
  if (right.isAtStart && !left.canBeEmpty) return [];
  if (left.isAtEnd && !right.canBeEmpty) return [];
  return [
    {
      isAtStart: left.isAtStart || right.isAtStart,
      isAtEnd: left.isAtEnd || right.isAtEnd,
      expression: sequenceOf([
        right.isAtStart ? NOTHING : left.expression,
        left.isAtEnd ? NOTHING : right.expression,
      ]),
      canBeEmpty: left.canBeEmpty && right.canBeEmpty,
    },
  ];
}

function merged(options: readonly Option[]): readonly Option[] {
  if (options.length < 2) return options;
  return [false, true].flatMap((isAtStart) =>
    [false, true].flatMap((isAtEnd) => {
      const alike = options.filter(
        (each) => each.isAtStart === isAtStart && each.isAtEnd === isAtEnd,
      );
      if (alike.length === 0) return [];
      const expression = choiceOf(alike.map((each) => each.expression));
      const canBeEmpty = alike.some((each) => each.canBeEmpty);
      return [option(isAtStart, isAtEnd, expression, canBeEmpty)];
    }),
  );
}

function choiceOf(options: readonly Expression[]): Expression {
  const [only] = options;
  if (only !== undefined && options.length === 1) return only;
  return { kind: 'choice', options };
}

function sequenceOf(parts: readonly Expression[]): Expression {
  const flat = parts.flatMap((part) => (part.kind === 'sequence' ? part.parts : [part]));
  const [only] = flat;
  return only !== undefined && flat.length === 1 ? only : { kind: 'sequence', parts: flat };
}

class PatternParser {
  readonly #points: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#points = [...pattern];
  }

  parse(): Pattern {
    const pattern = this.#choice();
    if (this.#at < this.#points.length) this.#refuse('a ) that closes nothing');
    return pattern;
  }

  get #next(): string | undefined {
    return this.#points[this.#at];
  }

  #take(expected: string): boolean {
    const isNext = [...expected].every((point, at) => this.#points[this.#at + at] === point);
    if (isNext) this.#at += expected.length;
    return isNext;
  }

  #refuse(what: string): never {
    throw new GrammarError(
      'syntax',
      `a regular expression is wrong at character ${this.#at + 1}: ${what}`,
    );
  }

  #unsupported(what: string): never {
    throw new GrammarError(
      'unsupported',
      `a regular expression uses ${what} at character ${this.#at + 1}, which is not supported`,
    );
  }

  #choice(): Pattern {
    this.#depth += 1;
    if (this.#depth > MAX_NESTING) {
      throw new GrammarError(
        'too-large',
        `a regular expression nests deeper than ${MAX_NESTING} groups`,
      );
    }
    const options = [this.#sequence()];
    while (this.#take('|')) options.push(this.#sequence());
    this.#depth -= 1;
    return options.length === 1 ? options[0]! : { kind: 'choice', options };
  }

  #sequence(): Pattern {
    const parts: Pattern[] = [];
    while (this.#next !== undefined && this.#next !== '|' && this.#next !== ')') {
      parts.push(this.#quantified(this.#atom()));
    }
    return parts.length === 1 ? parts[0]! : { kind: 'sequence', parts };
  }

  #quantified(body: Pattern): Pattern {
    const bounds = this.#bounds();
    if (bounds === undefined) return body;
    if (body.kind === 'anchor') this.#refuse('a repeated anchor');
    this.#take('?'); // the same texts, found in another order
    if (this.#next === '+') this.#unsupported('a possessive quantifier');
    if (this.#next === '*' || this.#next === '?') this.#refuse('a repeat of a repeat');
    const [min, max] = bounds;
    return { kind: 'repeat', body, min, max };
  }

  #bounds(): readonly [min: number, max: number | undefined] | undefined {
    if (this.#take('*')) return [0, undefined];
    if (this.#take('+')) return [1, undefined];
    if (this.#take('?')) return [0, 1];
    const start = this.#at;
    if (!this.#take('{')) return undefined;
    const min = this.#number();
    let max = min;
    if (this.#take(',')) max = this.#number();
    if (min === undefined || !this.#take('}')) {
      this.#at = start;
      return this.#refuse('{ that begins no bounds: write \\{ for the character');
    }
    if (max !== undefined && max < min) this.#refuse('bounds out of order');
    return [min, max];
  }

  #number(): number | undefined {
    let digits = '';
    while (this.#next !== undefined && /^[0-9]$/.test(this.#next)) {
      digits += this.#next;
      this.#at += 1;
    }
    if (digits === '') return undefined;
    const value = Number(digits);
    if (value <= MAX_REPEATS) return value;
    throw new GrammarError(
      'too-large',
      `a repeat of ${digits.slice(0, 20)} in a regular expression`,
    );
  }

  #atom(): Pattern {
    if (this.#take('^')) return { kind: 'anchor', at: 'start' };
    if (this.#take('$')) return { kind: 'anchor', at: 'end' };
    if (this.#take('.')) return { kind: 'set', ranges: complement(LINE_ENDS) };
    if (this.#take('[')) return { kind: 'set', ranges: this.#class() };
    if (this.#take('(')) return this.#group();
    if (this.#next === '\\') return { kind: 'set', ranges: this.#escape(false) };
    const point = this.#next ?? this.#refuse('its end');
    if ('*+?'.includes(point)) this.#refuse(`${point} that repeats nothing`);
    if (point === '{') this.#refuse('{ that repeats nothing: write \\{ for the character');
    this.#at += 1;
    return { kind: 'set', ranges: pointRange(point) };
  }

  #group(): Pattern {
    if (this.#take('?')) {
      if (this.#next === '=' || this.#next === '!') this.#unsupported('lookahead');
      const isBehind = this.#next === '<' && /^[=!]$/.test(this.#points[this.#at + 1] ?? '');
      if (isBehind) this.#unsupported('lookbehind');
      this.#take('P'); // of Python
      if (this.#take('<')) {
        while (/^[\p{ID_Continue}$]$/u.test(this.#next ?? '')) this.#at += 1;
        if (!this.#take('>')) this.#refuse('the name of a group does not end');
      } else if (!this.#take(':')) {
        this.#unsupported('a group with flags');
      }
    }
    const body = this.#choice();
    if (!this.#take(')')) this.#refuse('a group does not end');
    return body.kind === 'anchor' ? { kind: 'sequence', parts: [body] } : body;
  }

  #class(): readonly CodePointRange[] {
    const isNegated = this.#take('^');
    const ranges: CodePointRange[] = [];
    while (!this.#take(']')) {
      const first = this.#classMember();
      const isRange = this.#next === '-' && this.#points[this.#at + 1] !== ']';
      if (!isRange) {
        ranges.push(...first);
        continue;
      }
      this.#at += 1;
      const last = this.#classMember();
      const from = onlyPoint(first) ?? this.#refuse('a range from a class of characters');
      const to = onlyPoint(last) ?? this.#refuse('a range to a class of characters');
      if (from > to) this.#refuse('a range out of order');
      ranges.push([from, to]);
    }
    return isNegated ? complement(ranges) : mergeRanges(ranges);
  }

  #classMember(): readonly CodePointRange[] {
    const point = this.#next ?? this.#refuse('a class of characters does not end');
    if (point === '\\') return this.#escape(true);
    this.#at += 1;
    return pointRange(point);
  }

  #escape(isInClass: boolean): readonly CodePointRange[] {
    this.#at += 1;
    const point = this.#next ?? this.#refuse('its end after \\');
    if (!isInClass && (point === 'b' || point === 'B')) this.#unsupported('a word boundary');
    if (point === 'k' || /^[1-9]$/.test(point)) this.#unsupported('a backreference');
    if (/^[AzZ]$/.test(point)) this.#unsupported(`\\${point}, for which ^ or $ is written,`);
    this.#at += 1;
    switch (point) {
      case 'd':
        return DIGITS;
      case 'D':
        return complement(DIGITS);
      case 'w':
        return WORD;
      case 'W':
        return complement(WORD);
      case 's':
        return SPACE;
      case 'S':
        return complement(SPACE);
      case 'p':
      case 'P':
        return this.#property(point === 'P');
      case 'u':
        return this.#unicode();
      case 'x':
        return this.#hex(2);
      case 'c': {
        const letter = this.#next ?? '';
        if (!/^[A-Za-z]$/.test(letter)) this.#refuse('\\c without a letter');
        this.#at += 1;
        const code = letter.charCodeAt(0) % 32;
        return [[code, code]];
      }
    }
    const control = CONTROLS.get(point);
    if (control !== undefined) return [[control, control]];
    if (/^[A-Za-z0-9]$/.test(point)) this.#refuse(`\\${point} means nothing`);
    return pointRange(point);
  }

  #unicode(): readonly CodePointRange[] {
    if (this.#take('{')) {
      let digits = '';
      while (/^[0-9A-Fa-f]$/.test(this.#next ?? '')) {
        digits += this.#next;
        this.#at += 1;
      }
      const value = Number.parseInt(digits, 16);
      if (!this.#take('}') || !(value <= LAST_CODE_POINT))
        this.#refuse('\\u{ without a code point');
      return [[value, value]];
    }
    const [unit] = this.#hex(4);
    const first = unit?.[0] ?? 0;
    const isHigh = first >= 0xd800 && first < 0xdc00;
    if (isHigh && this.#points[this.#at] === '\\' && this.#points[this.#at + 1] === 'u') {
      const start = this.#at;
      this.#at += 2;
      const low = this.#next === '{' ? 0 : (this.#hex(4)[0]?.[0] ?? 0);
      if (low >= 0xdc00 && low < 0xe000) {
        const point = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
        return [[point, point]];
      }
      this.#at = start;
    }
    return [[first, first]];
  }

  #hex(length: number): readonly CodePointRange[] {
    const digits = this.#points.slice(this.#at, this.#at + length).join('');
    if (digits.length !== length || !/^[0-9A-Fa-f]+$/.test(digits)) {
      this.#refuse(`an escape without ${length} hexadecimal digits`);
    }
    this.#at += length;
    const value = Number.parseInt(digits, 16);
    return [[value, value]];
  }

  #property(isNegated: boolean): readonly CodePointRange[] {
    let name = '';
    if (!this.#take('{')) this.#refuse('\\p without {');
    while (/^[A-Za-z0-9_=]$/.test(this.#next ?? '') && name.length < 100) {
      name += this.#next;
      this.#at += 1;
    }
    if (!this.#take('}')) this.#refuse('\\p{ does not end');
    const ranges = propertyRanges(name) ?? this.#refuse('no property of Unicode');
    return isNegated ? complement(ranges) : ranges;
  }
}

const CONTROLS: ReadonlyMap<string, number> = new Map([
  ['0', 0x00],
  ['b', 0x08], // in a class
  ['t', 0x09],
  ['n', 0x0a],
  ['v', 0x0b],
  ['f', 0x0c],
  ['r', 0x0d],
]);

function pointRange(point: string): readonly CodePointRange[] {
  const code = point.codePointAt(0) ?? 0;
  return [[code, code]];
}

function onlyPoint(ranges: readonly CodePointRange[]): number | undefined {
  const [range] = ranges;
  return ranges.length === 1 && range !== undefined && range[0] === range[1] ? range[0] : undefined;
}

function complement(ranges: readonly CodePointRange[]): CodePointRange[] {
  const rest: CodePointRange[] = [];
  let from = 0;
  for (const [first, last] of mergeRanges(ranges)) {
    if (first > from) rest.push([from, first - 1]);
    from = last + 1;
  }
  if (from <= LAST_CODE_POINT) rest.push([from, LAST_CODE_POINT]);
  return rest;
}

const MAX_KNOWN_PROPERTIES = 64;
const knownProperties = new Map<string, readonly CodePointRange[]>();

/** Which characters have a property is known to the platform: it is tried on all of them. */
function propertyRanges(name: string): readonly CodePointRange[] | undefined {
  const known = knownProperties.get(name);
  if (known !== undefined) return known;
  let matcher: RegExp;
  try {
    matcher = new RegExp(`\\p{${name}}+`, 'gu');
  } catch {
    return undefined;
  }
  const ranges = PLANES.flatMap(([first, last]) => {
    const units = last > 0xffff ? 2 : 1;
    const all = Array.from({ length: last - first + 1 }, (_, at) =>
      String.fromCodePoint(first + at),
    ).join('');
    return [...all.matchAll(matcher)].map(({ 0: run, index }): CodePointRange => {
      const from = first + index / units;
      return [from, from + run.length / units - 1];
    });
  });
  if (knownProperties.size >= MAX_KNOWN_PROPERTIES) knownProperties.clear();
  const merged = mergeRanges(ranges);
  knownProperties.set(name, merged);
  return merged;
}

/** All characters; no surrogates. Those after U+FFFF take two units of UTF-16. */
const PLANES: readonly CodePointRange[] = [
  [0, 0xd7ff],
  [0xe000, 0xffff],
  ...Array.from({ length: 16 }, (_, at): CodePointRange => {
    const first = (at + 1) << 16;
    return [first, first + 0xffff];
  }),
];
