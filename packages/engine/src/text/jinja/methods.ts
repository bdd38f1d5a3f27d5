/** The methods of Python's builtin types that templates call. */
import { changeMarked, splitMarked, unmark } from '../marks.ts';
import { bind, type Signature, wantInteger, wantText } from './arguments.ts';
import type { Budget } from './budget.ts';
import { fail } from './errors.ts';
import { type FormatFields, formatFieldsOf } from './format.ts';
import { asIndex } from './operators.ts';
import {
  characters,
  isPrintable,
  isSpace,
  lengthOf,
  placeOf,
  splitLines,
  substring,
  trimEnd,
  trimStart,
} from './text.ts';
import {
  type Arguments,
  Callable,
  Dict,
  DictView,
  equals,
  iterate,
  Markup,
  PyObject,
  Range,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** What methods need of the interpreter. */
export interface MethodContext {
  readonly budget: Budget;
  readonly fields: Pick<FormatFields, 'attribute' | 'item'>;
}

interface Method<Self> {
  readonly signature: Signature | undefined;
  readonly call: (self: Self, context: MethodContext, ...values: Value[]) => Value;
  /** For methods that take any arguments. */
  readonly callAny?: (self: Self, context: MethodContext, given: Arguments) => Value;
}

type Methods<Self> = Readonly<Record<string, Method<Self>>>;

const method = <Self>(
  signature: Signature,
  call: (self: Self, context: MethodContext, ...values: Value[]) => Value,
): Method<Self> => ({ signature, call });

const asIs = <Self>(call: (self: Self) => Value): Method<Self> => method([], call);

/** What goes through a string character by character, which takes far longer than to copy it. */
const perCharacter = (call: (self: string) => Value): Method<string> =>
  method([], (self, { budget }) => {
    budget.spend(self.length);
    return call(unmark(self));
  });

/** The text that `change` makes of another. What was marked of that stays so. */
export const changeText = (text: string, change: (text: string) => string): string =>
  changeMarked(text, change) ?? fail('text of a request changes its length with its case');

// Strings

/** `text` without what surrounds it: the characters of `chars`, or space for None. */
function strip(sides: 'left' | 'right' | 'both'): Method<string> {
  return method([['/chars', null]], (self, _, chars) => {
    const only = chars === null ? undefined : wantText(chars, 'strip');
    const right = sides === 'left' ? self : trimEnd(self, only);
    return sides === 'right' ? right : trimStart(right, only);
  });
}

/** Start and end of a search in UTF-16 units, from code points as Python counts them. */
function region(self: string, start: Value, end: Value): readonly [number, number] {
  if (start === null && end === null) return [0, self.length];
  const length = lengthOf(self);
  const bound = (value: Value, otherwise: number) => {
    if (value === null) return otherwise;
    const at = wantInteger(value, 'a search');
    return Math.max(at < 0 ? at + length : at, 0);
  };
  const from = bound(start, 0);
  const to = Math.min(bound(end, length), length);
  if (length === self.length) return [from, to];
  const unit = (at: number) => (at > length ? self.length + 1 : substring(self, 0, at).length);
  return [unit(from), unit(to)];
}

function find(fromEnd: boolean, isStrict: boolean): Method<string> {
  return method(['/sub', ['/start', null], ['/end', null]], (self, _, sub, start, end) => {
    const part = unmark(wantText(sub, 'find'));
    const [from, to] = region(self, start, end);
    const within = unmark(self).slice(from, Math.max(from, to));
    const at = fromEnd ? within.lastIndexOf(part) : within.indexOf(part);
    const isFound = at >= 0 && from <= to;
    if (!isFound && isStrict) fail('a substring is not found');
    return BigInt(isFound ? placeOf(self, from + at) : -1);
  });
}

function hasAffix(isEnd: boolean): Method<string> {
  return method(['/affix', ['/start', null], ['/end', null]], (self, _, affix, start, end) => {
    const [from, to] = region(self, start, end);
    const within = unmark(self).slice(from, Math.max(from, to));
    const affixes = affix instanceof Tuple ? affix.items : [affix];
    return affixes.some((each) => {
      const text = unmark(wantText(each, isEnd ? 'endswith' : 'startswith'));
      if (from > to) return false;
      return isEnd ? within.endsWith(text) : within.startsWith(text);
    });
  });
}

/** str.split and str.rsplit; `limit` below zero is none. */
export function splitText(
  self: string,
  separator: Value,
  limit: number,
  fromEnd: boolean,
): string[] {
  if (separator === null) return splitWords(self, limit, fromEnd);
  const by = wantText(separator, 'split');
  if (by === '') fail('empty separator');
  const parts = splitMarked(self, by);
  if (limit < 0 || parts.length - 1 <= limit) return parts;
  if (!fromEnd) return [...parts.slice(0, limit), self.slice(lengthBefore(parts, limit, by))];
  const kept = parts.length - limit;
  return [self.slice(0, lengthBefore(parts, kept, by) - by.length), ...parts.slice(kept)];
}

/** Of the first `count` parts, with the separator after each. */
function lengthBefore(parts: readonly string[], count: number, separator: string): number {
  return parts.slice(0, count).reduce((sum, part) => sum + part.length + separator.length, 0);
}

function splitWords(self: string, limit: number, fromEnd: boolean): string[] {
  const words: string[] = [];
  let rest = fromEnd ? trimEnd(self) : trimStart(self);
  while (rest !== '') {
    if (words.length === limit) {
      words.push(fromEnd ? trimEnd(rest) : rest);
      break;
    }
    let at = fromEnd ? rest.length - 1 : 0;
    while (at >= 0 && at < rest.length && !isSpace(rest[at]!)) at += fromEnd ? -1 : 1;
    words.push(fromEnd ? rest.slice(at + 1) : rest.slice(0, at));
    rest = fromEnd ? trimEnd(rest.slice(0, Math.max(at, 0))) : trimStart(rest.slice(at));
  }
  return fromEnd ? words.reverse() : words;
}

function split(fromEnd: boolean): Method<string> {
  const signature: Signature = [
    ['sep', null],
    ['maxsplit', -1n],
  ];
  return method(signature, (self, { budget }, separator, limit) => {
    const parts = splitText(self, separator, wantInteger(limit, 'split'), fromEnd);
    budget.spend(parts.length);
    return parts;
  });
}

function partition(fromEnd: boolean): Method<string> {
  return method(['/sep'], (self, _, separator) => {
    const by = wantText(separator, 'partition');
    if (by === '') fail('empty separator');
    const [text, part] = [unmark(self), unmark(by)];
    const at = fromEnd ? text.lastIndexOf(part) : text.indexOf(part);
    if (at < 0) return new Tuple(fromEnd ? ['', '', self] : [self, '', '']);
    const end = at + by.length;
    return new Tuple([self.slice(0, at), self.slice(at, end), self.slice(end)]);
  });
}

/** str.replace; `count` below zero is every time. */
export function replaceText(
  self: string,
  old: string,
  by: string,
  count: number,
  budget: Budget,
): string {
  if (count === 0) return self;
  if (old === '') budget.spend(self.length);
  const parts = old === '' ? ['', ...characters(self), ''] : splitMarked(self, old);
  const times = count < 0 ? parts.length - 1 : Math.min(count, parts.length - 1);
  budget.spend(times);
  budget.checkText(self.length + times * by.length);
  if (times === parts.length - 1) return parts.join(by);
  const rest = self.slice(lengthBefore(parts, times, old));
  return [...parts.slice(0, times), rest].join(by);
}

function justify(place: (missing: number, width: number) => number): Method<string> {
  return method(['/width', ['/fillchar', ' ']], (self, { budget }, width, fill) => {
    const size = wantInteger(width, 'width');
    const filler = wantText(fill, 'fillchar');
    if (lengthOf(filler) !== 1) fail('the fill character must be one character long');
    budget.checkText(size);
    const missing = Math.max(0, size - lengthOf(self));
    const left = place(missing, size);
    return filler.repeat(left) + self + filler.repeat(missing - left);
  });
}

/** How Python centres: the odd space goes left where the width is odd too. */
const centred = (missing: number, width: number) => Math.floor(missing / 2) + (missing & width & 1);

const CASED = /\p{Cased}/u;
const UPPER = /\p{Uppercase}|\p{Lt}/u;
const LOWER = /\p{Lowercase}/u;

const all = (pattern: RegExp) =>
  perCharacter((self) => self !== '' && characters(self).every((each) => pattern.test(each)));

/** Whether there is a cased character and none of the other case. */
export const isLower = (text: string) => CASED.test(text) && !/[\p{Lu}\p{Lt}]/u.test(text);
export const isUpper = (text: string) => CASED.test(text) && !/[\p{Ll}\p{Lt}]/u.test(text);

export function capitalize(text: string): string {
  if (text === '') return '';
  const first = String.fromCodePoint(text.codePointAt(0)!);
  return titleCase(first) + text.slice(first.length).toLowerCase();
}

/** Letters of two, of which a title has only the first as a capital. */
const DIGRAPHS: Readonly<Record<string, string>> = { Ǆ: 'ǅ', Ǉ: 'ǈ', Ǌ: 'ǋ', Ǳ: 'ǲ' };

/** A character at the start of a word. */
function titleCase(character: string): string {
  const upper = character.toUpperCase();
  const digraph = DIGRAPHS[upper];
  if (digraph !== undefined) return digraph;
  const first = upper.search(CASED) + 1;
  return upper.length > 1 ? upper.slice(0, first) + upper.slice(first).toLowerCase() : upper;
}

function title(text: string): string {
  let isInWord = false;
  return characters(text)
    .map((character) => {
      const cased = isInWord ? character.toLowerCase() : titleCase(character);
      isInWord = CASED.test(character);
      return cased;
    })
    .join('');
}

function isTitle(text: string): boolean {
  let isInWord = false;
  let hasWord = false;
  for (const character of text) {
    const isCased = CASED.test(character);
    if (isCased && UPPER.test(character) === isInWord) return false;
    hasWord ||= isCased;
    isInWord = isCased;
  }
  return hasWord;
}

function expandTabs(self: string, size: number): string {
  let column = 0;
  return characters(self)
    .map((character) => {
      if (character === '\t') {
        const spaces = size > 0 ? size - (column % size) : 0;
        column += spaces;
        return ' '.repeat(spaces);
      }
      column = character === '\n' || character === '\r' ? 0 : column + 1;
      return character;
    })
    .join('');
}

function formatted(): Method<string> {
  return {
    signature: undefined,
    call: (self) => self,
    callAny: (self, { budget, fields }, { positional, named }) => {
      const all = { ...fields, positional, named: (name: string) => named.get(name) };
      return formatFieldsOf(self, all, budget);
    },
  };
}

export function joinText(separator: string, parts: Iterable<string>, budget: Budget): string {
  let text = '';
  let isFirst = true;
  for (const part of parts) {
    budget.spend();
    text += isFirst ? part : separator + part;
    isFirst = false;
    budget.checkText(text.length);
  }
  return text;
}

/** What changes characters one by one. */
const changing = (change: (text: string) => string): Method<string> =>
  method([], (self, { budget }) => {
    budget.spend(self.length);
    return changeText(self, change);
  });

const STRING: Methods<string> = {
  capitalize: changing(capitalize),
  casefold: changing((self) => self.toLowerCase().replaceAll('ß', 'ss').replaceAll('ς', 'σ')),
  center: justify(centred),
  count: method(['/sub', ['/start', null], ['/end', null]], (self, _, sub, start, end) => {
    const part = unmark(wantText(sub, 'count'));
    const [from, to] = region(self, start, end);
    if (from > to) return 0n;
    const within = unmark(self).slice(from, to);
    return BigInt(part === '' ? lengthOf(within) + 1 : within.split(part).length - 1);
  }),
  endswith: hasAffix(true),
  expandtabs: method([['tabsize', 8n]], (self, { budget }, size) => {
    const columns = wantInteger(size, 'expandtabs');
    budget.spend(self.length);
    budget.checkText(self.length * Math.max(1, columns));
    return expandTabs(self, columns);
  }),
  find: find(false, false),
  format: formatted(),
  format_map: method(['/mapping'], (self, { budget, fields }, mapping) => {
    const named = (name: string) => (mapping instanceof Dict ? mapping.get(name) : undefined);
    return formatFieldsOf(self, { ...fields, positional: [], named }, budget);
  }),
  index: find(false, true),
  isalnum: all(/[\p{L}\p{N}]/u),
  isalpha: all(/\p{L}/u),
  isascii: asIs((self) => !/[^\0-\x7f]/.test(unmark(self))),
  isdecimal: all(/\p{Nd}/u),
  isdigit: all(/[\p{Nd}²³¹⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐]/u),
  isidentifier: asIs((self) => /^[\p{ID_Start}_]\p{ID_Continue}*$/u.test(unmark(self))),
  islower: asIs((self) => isLower(unmark(self))),
  isnumeric: all(/\p{N}/u),
  isprintable: perCharacter((self) => characters(self).every(isPrintable)),
  isspace: perCharacter((self) => self !== '' && characters(self).every(isSpace)),
  istitle: perCharacter(isTitle),
  isupper: asIs((self) => isUpper(unmark(self))),
  join: method(['/iterable'], (self, { budget }, iterable) => {
    const parts = [...iterate(iterable)].map((each) => wantText(each, 'join'));
    return joinText(self, parts, budget);
  }),
  ljust: justify(() => 0),
  lower: changing((self) => self.toLowerCase()),
  lstrip: strip('left'),
  partition: partition(false),
  removeprefix: method(['/prefix'], (self, _, prefix) => {
    const text = wantText(prefix, 'removeprefix');
    return unmark(self).startsWith(unmark(text)) ? self.slice(text.length) : self;
  }),
  removesuffix: method(['/suffix'], (self, _, suffix) => {
    const text = wantText(suffix, 'removesuffix');
    const isEnd = text !== '' && unmark(self).endsWith(unmark(text));
    return isEnd ? self.slice(0, -text.length) : self;
  }),
  replace: method(['/old', '/new', ['/count', -1n]], (self, { budget }, old, by, count) => {
    const [from, to] = [wantText(old, 'replace'), wantText(by, 'replace')];
    return replaceText(self, from, to, wantInteger(count, 'replace'), budget);
  }),
  rfind: find(true, false),
  rindex: find(true, true),
  rjust: justify((missing) => missing),
  rpartition: partition(true),
  rsplit: split(true),
  rstrip: strip('right'),
  split: split(false),
  splitlines: method([['keepends', false]], (self, { budget }, keepEnds) => {
    const lines = splitLines(self, Boolean(keepEnds));
    budget.spend(lines.length);
    return lines;
  }),
  startswith: hasAffix(false),
  strip: strip('both'),
  swapcase: changing((self) =>
    characters(self)
      .map((each) => (LOWER.test(each) ? each.toUpperCase() : each.toLowerCase()))
      .join(''),
  ),
  title: changing(title),
  upper: changing((self) => self.toUpperCase()),
  zfill: method(['/width'], (self, { budget }, width) => {
    const size = wantInteger(width, 'zfill');
    budget.checkText(size);
    const sign = /^[-+]/.exec(self)?.[0] ?? '';
    const zeros = '0'.repeat(Math.max(0, size - lengthOf(self)));
    return sign + zeros + self.slice(sign.length);
  }),
};

// Containers and numbers

function indexOf(items: readonly Value[], budget: Budget, given: readonly Value[]): Value {
  const [wanted, start, stop] = given as [Value, Value, Value];
  const bound = (value: Value, otherwise: number) => {
    if (value === null) return otherwise;
    const at = wantInteger(value, 'index');
    return at < 0 ? Math.max(0, at + items.length) : at;
  };
  budget.spend(items.length);
  const to = bound(stop, items.length);
  for (let at = bound(start, 0); at < Math.min(to, items.length); at += 1) {
    if (equals(items[at]!, wanted, budget)) return BigInt(at);
  }
  return fail('a value is not in the sequence');
}

function counting<Self>(items: (self: Self) => Iterable<Value>): Method<Self> {
  return method(['/value'], (self, { budget }, value) => {
    let count = 0n;
    for (const each of items(self)) if (equals(each, value, budget)) count += 1n;
    return count;
  });
}

function indexing<Self>(items: (self: Self) => readonly Value[]): Method<Self> {
  return method(['/value', ['/start', null], ['/stop', null]], (self, { budget }, ...given) =>
    indexOf(items(self), budget, given),
  );
}

const LIST: Methods<Value[]> = {
  copy: asIs((self) => self),
  count: counting((self) => self),
  index: indexing((self) => self),
};

const TUPLE: Methods<Tuple> = {
  count: counting((self) => self.items),
  index: indexing((self) => self.items),
};

const RANGE: Methods<Range> = {
  count: counting((self) => self.iterate()),
  index: indexing((self) => [...self.iterate()]),
};

const DICT: Methods<Dict> = {
  copy: asIs((self) => self),
  get: method(['/key', ['/default', null]], (self, _, key, otherwise) => {
    const value = self.get(key);
    return value === undefined ? otherwise! : value;
  }),
  items: asIs((self) => new DictView(self, 'items')),
  keys: asIs((self) => new DictView(self, 'keys')),
  values: asIs((self) => new DictView(self, 'values')),
};

const INTEGER: Methods<bigint> = {
  bit_count: asIs((self) => BigInt([...self.toString(2)].filter((each) => each === '1').length)),
  bit_length: asIs((self) => {
    const magnitude = self < 0n ? -self : self;
    return magnitude === 0n ? 0n : BigInt(magnitude.toString(2).length);
  }),
  conjugate: asIs((self) => self),
};

const FLOAT: Methods<number> = {
  conjugate: asIs((self) => self),
  is_integer: asIs((self) => Number.isInteger(self)),
};

/**
 * Attributes that Python's types have beside the methods above. The sandbox hides those that change
 * a value; the rest is not supported. Either way they come before a dict's keys of the same name.
 */
const CHANGING: Readonly<Record<string, readonly string[]>> = {
  dict: ['clear', 'pop', 'popitem', 'setdefault', 'update'],
  list: ['append', 'clear', 'extend', 'insert', 'pop', 'remove', 'reverse', 'sort'],
};
const UNSUPPORTED: Readonly<Record<string, readonly string[]>> = {
  str: ['encode', 'maketrans', 'translate'],
  dict: ['fromkeys'],
  int: ['as_integer_ratio', 'from_bytes', 'to_bytes'],
  bool: ['as_integer_ratio', 'from_bytes', 'to_bytes'],
  float: ['as_integer_ratio', 'fromhex', 'hex'],
  dict_keys: ['isdisjoint', 'mapping'],
  dict_values: ['mapping'],
  dict_items: ['isdisjoint', 'mapping'],
  generator: ['close', 'gi_code', 'gi_frame', 'gi_running', 'gi_yieldfrom', 'send', 'throw'],
};

/** What every object of Python has; the sandbox hides it. */
const HIDDEN = new Set(
  (
    'class delattr dir doc eq format ge getattribute getstate gt hash init init_subclass le lt ' +
    'ne new reduce reduce_ex repr setattr sizeof str subclasshook'
  )
    .split(' ')
    .map((name) => `__${name}__`),
);

function ownMethod<Self>(
  self: Self,
  methods: Methods<Self>,
  name: string,
  context: MethodContext,
): Callable | undefined {
  if (!Object.hasOwn(methods, name)) return undefined;
  const { signature, call, callAny } = methods[name]!;
  return new Callable('builtin_function_or_method', (given) => {
    context.budget.spendText(typeof self === 'string' ? self.length : 0);
    if (signature === undefined) return callAny!(self, context, given);
    return call(self, context, ...bind(name, signature, given));
  });
}

function method_(value: Value, name: string, context: MethodContext): Value | undefined {
  if (value === null) return undefined;
  if (typeof value === 'string') return ownMethod(value, STRING, name, context);
  if (typeof value === 'number') {
    if (name === 'real') return value;
    return name === 'imag' ? 0 : ownMethod(value, FLOAT, name, context);
  }
  const integer = typeof value === 'object' ? undefined : asIndex(value);
  if (integer !== undefined) {
    const self = typeof value === 'boolean' ? BigInt(value) : (value as bigint);
    if (name === 'real' || name === 'numerator') return self;
    if (name === 'imag') return 0n;
    return name === 'denominator' ? 1n : ownMethod(self, INTEGER, name, context);
  }
  if (Array.isArray(value)) return ownMethod(value, LIST, name, context);
  if (value instanceof Dict) return ownMethod(value, DICT, name, context);
  if (value instanceof Tuple) {
    return ownMethod(value, TUPLE, name, context) ?? value.attribute(name);
  }
  if (value instanceof Range) {
    return ownMethod(value, RANGE, name, context) ?? value.attribute(name);
  }
  return value instanceof PyObject ? value.attribute(name) : undefined;
}

/** getattr() in the sandbox, without Jinja2's fallback to items; undefined: there is none. */
export function attributeOf(value: Value, name: string, context: MethodContext): Value | undefined {
  const self = value instanceof Markup ? value.text : value;
  const found = method_(self, name, context);
  if (found !== undefined) return found;
  const type = typeName(self);
  if (HIDDEN.has(name) || CHANGING[type]?.includes(name)) {
    return new Undefined(`access to attribute '${name}' of '${type}' object is unsafe`);
  }
  if (!UNSUPPORTED[type]?.includes(name)) return undefined;
  return new Callable('builtin_function_or_method', () =>
    fail(`'${name}' of '${type}' object is not supported`),
  );
}
