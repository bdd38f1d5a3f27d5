/** The filters of Jinja2, but `tojson`, which transformers replaces, and those in `REFUSED`. */
import { unmark } from '../marks.ts';
import { bind, plain, type Signature, wantInteger, wantText } from './arguments.ts';
import type { Budget } from './budget.ts';
import { fail } from './errors.ts';
import { formatPercent } from './format.ts';
import { capitalize, changeText, joinText, replaceText, splitText } from './methods.ts';
import {
  readFloat,
  readInteger,
  roundFloat,
  roundInteger,
  toFloat,
  truncate,
  writeFixed,
} from './numbers.ts';
import { arithmetic, compare, refuseUndefined } from './operators.ts';
import {
  characters,
  escapeHtml,
  lengthOf,
  PYTHON_SPACE,
  splitLines,
  substring,
  trimEnd,
  trimStart,
} from './text.ts';
import {
  type Arguments,
  asNumber,
  asText,
  Dict,
  DictView,
  equals,
  Generator,
  isTruthy,
  iterate,
  len,
  listOf,
  Markup,
  Range,
  str,
  Tuple,
  tryIterate,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** What filters and tests need of the interpreter. */
export interface Runtime {
  readonly budget: Budget;
  filter(name: string, value: Value, args: Arguments): Value;
  hasFilter(name: string): boolean;
  test(name: string, value: Value, args: Arguments): boolean;
  /** `value[key]`, with Jinja2's fallback to attributes. */
  item(value: Value, key: Value): Value;
  /** getattr() in the sandbox; undefined where there is none. */
  attribute(value: Value, name: string): Value | undefined;
}

export type Filter = (runtime: Runtime, value: Value, args: Arguments) => Value;

function filter(
  name: string,
  signature: Signature,
  apply: (runtime: Runtime, value: Value, ...values: Value[]) => Value,
): readonly [string, Filter] {
  return [
    name,
    (runtime, value, args) => apply(runtime, value, ...bind(`filter "${name}"`, signature, args)),
  ];
}

/** A filter of a string: whatever the value is, its text. */
function ofText(
  name: string,
  signature: Signature,
  apply: (text: string, runtime: Runtime, ...values: Value[]) => Value,
): readonly [string, Filter] {
  return filter(name, signature, (runtime, value, ...values) => {
    const text = str(value, runtime.budget);
    runtime.budget.spendText(text.length);
    return apply(text, runtime, ...values);
  });
}

// Attributes of items: "a.0.b"

type Getter = (value: Value) => Value;

function getterOf(runtime: Runtime, attribute: Value, otherwise: Value = null): Getter {
  const parts: Value[] = [];
  const text = asText(attribute);
  if (text !== undefined) {
    for (const part of text.split('.')) parts.push(/^\d+$/.test(part) ? BigInt(part) : part);
  } else if (attribute !== null) parts.push(attribute);
  return (value) => {
    runtime.budget.spend();
    let found = value;
    for (const part of parts) {
      found = runtime.item(found, part);
      if (otherwise !== null && found instanceof Undefined) found = otherwise;
    }
    return found;
  };
}

/** What values are compared by: strings by default without regard to case. */
function keyOf(getter: Getter, isCaseSensitive: Value): Getter {
  if (isTruthy(isCaseSensitive)) return getter;
  return (value) => {
    const key = getter(value);
    const text = asText(key);
    return text === undefined ? key : unmark(text).toLowerCase();
  };
}

// Sequences

/** Stable, also in reverse. */
function sorted(runtime: Runtime, values: Iterable<Value>, key: Getter, isReverse: Value): Value[] {
  const { budget } = runtime;
  const keyed = [...values].map((value) => ({ value, key: key(value) }));
  const sign = isTruthy(isReverse) ? -1 : 1;
  keyed.sort((a, b) => {
    budget.spend();
    return sign * compare(a.key, b.key, budget) || 0;
  });
  return keyed.map(({ value }) => value);
}

/** reversed(); undefined where Python raises TypeError. */
function reversed(value: Value, budget: Budget): Value[] | undefined {
  const text = asText(value);
  if (text !== undefined) {
    budget.spend(text.length);
    return characters(text).reverse();
  }
  if (Array.isArray(value)) return value.toReversed();
  const isReversible =
    value instanceof Tuple ||
    value instanceof Dict ||
    value instanceof DictView ||
    value instanceof Range ||
    value instanceof Undefined;
  return isReversible ? [...value.iterate()!].reverse() : undefined;
}

function extreme(name: 'min' | 'max'): readonly [string, Filter] {
  const signature: Signature = [
    ['case_sensitive', false],
    ['attribute', null],
  ];
  return filter(name, signature, (runtime, value, isCaseSensitive, attribute) => {
    const key = keyOf(getterOf(runtime, attribute), isCaseSensitive);
    let best: { readonly value: Value; readonly key: Value } | undefined;
    for (const each of iterate(value)) {
      const candidate = { value: each, key: key(each) };
      if (best === undefined) best = candidate;
      else {
        const order = compare(candidate.key, best.key, runtime.budget);
        if (name === 'min' ? order < 0 : order > 0) best = candidate;
      }
    }
    return best === undefined ? new Undefined('the sequence is empty') : best.value;
  });
}

/** The rest of a filter's arguments: the name of another filter or a test, and what it is given. */
function rest(args: Arguments, from: number): Arguments {
  return { positional: args.positional.slice(from), named: args.named };
}

/** `select` and its kin: a generator, which asks only when it is asked. */
function selecting(name: string, wanted: boolean, ofAttribute: boolean): readonly [string, Filter] {
  return [
    name,
    (runtime, value, args) => {
      function* selected(): Iterable<Value> {
        if (!isTruthy(value)) return;
        const at = ofAttribute ? 1 : 0;
        if (args.positional.length < at) fail(`filter "${name}" is not given an attribute`);
        const getter = ofAttribute ? getterOf(runtime, args.positional[0]!) : (each: Value) => each;
        const test = args.positional[at];
        for (const each of iterate(value)) {
          runtime.budget.spend();
          const found = getter(each);
          const holds =
            test === undefined
              ? isTruthy(found)
              : runtime.test(wantText(test, name), found, rest(args, at + 1));
          if (holds === wanted) yield each;
        }
      }
      return new Generator(selected());
    },
  ];
}

const map: Filter = (runtime, value, args) => {
  function* mapped(): Iterable<Value> {
    if (!isTruthy(value)) return;
    const apply = mapper(runtime, args);
    for (const each of iterate(value)) {
      runtime.budget.spend();
      yield apply(each);
    }
  }
  return new Generator(mapped());
};

function mapper(runtime: Runtime, args: Arguments): Getter {
  const attribute = args.named.get('attribute');
  if (args.positional.length === 0 && attribute !== undefined) {
    const [, otherwise] = bind('filter "map"', ['attribute', ['default', null]], args);
    return getterOf(runtime, attribute, otherwise);
  }
  if (args.positional.length === 0) fail('filter "map" is given neither a filter nor an attribute');
  const name = wantText(args.positional[0], 'map');
  const others = rest(args, 1);
  return (each) => runtime.filter(name, each, others);
}

function* batches(value: Value, size: Value, fill: Value): Iterable<Value> {
  let batch: Value[] = [];
  const count = asNumber(size);
  for (const each of iterate(value)) {
    if (count !== undefined && batch.length === Number(count)) {
      yield batch;
      batch = [];
    }
    batch.push(each);
  }
  if (batch.length === 0) return;
  if (fill !== null) {
    const missing = wantInteger(size, 'batch') - batch.length;
    for (let at = 0; at < missing; at += 1) batch.push(fill);
  }
  yield batch;
}

function* slices(runtime: Runtime, value: Value, count: Value, fill: Value): Iterable<Value> {
  const items = listOf(value, runtime.budget);
  const columns = wantInteger(count, 'slice');
  if (columns === 0) fail('division by zero');
  const each = Math.floor(items.length / columns);
  const longer = items.length - each * columns;
  let from = 0;
  for (let column = 0; column < columns; column += 1) {
    runtime.budget.spend();
    const to = from + each + (column < longer ? 1 : 0);
    const slice = items.slice(from, to);
    if (fill !== null && column >= longer) slice.push(fill);
    yield slice;
    from = to;
  }
}

function* uniques(runtime: Runtime, value: Value, key: Getter): Iterable<Value> {
  const seen = new Dict();
  for (const each of iterate(value)) {
    runtime.budget.spend();
    const known = key(each);
    if (seen.has(known)) continue;
    seen.set(known, null);
    yield each;
  }
}

function groups(runtime: Runtime, values: readonly Value[], key: Getter, name: Getter): Value[] {
  const found: { readonly key: Value; readonly members: Value[] }[] = [];
  for (const value of sorted(runtime, values, key, false)) {
    const own = key(value);
    const last = found.at(-1);
    if (last !== undefined && equals(last.key, own, runtime.budget)) last.members.push(value);
    else found.push({ key: own, members: [value] });
  }
  return found.map(({ members }) => {
    return new Tuple([name(members[0]!), members], ['grouper', 'list']);
  });
}

// Numbers

function toInteger(value: Value, otherwise: Value, base: Value): Value {
  refuseUndefined(value);
  const number = asNumber(value);
  if (typeof number === 'bigint') return number;
  if (number !== undefined) return Number.isFinite(number) ? truncate(number) : otherwise;
  const text = asText(value);
  if (text === undefined) return otherwise;
  const plainText = unmark(text);
  const whole = readInteger(plainText, wantInteger(base, 'int'));
  if (whole !== undefined) return whole;
  const float = readFloat(plainText);
  return float !== undefined && Number.isFinite(float) ? truncate(float) : otherwise;
}

function round(value: Value, precision: Value, method: Value): Value {
  const number = asNumber(value);
  if (number === undefined) {
    refuseUndefined(value);
    return fail(`'${typeName(value)}' cannot be rounded`);
  }
  const digits = wantInteger(precision, 'round');
  if (Math.abs(digits) > 400) fail('a precision is out of range');
  if (method === 'common') {
    return typeof number === 'bigint' ? roundInteger(number, digits) : roundFloat(number, digits);
  }
  if (method !== 'ceil' && method !== 'floor') fail('method must be common, ceil or floor');
  const unit = 10 ** digits;
  const scaled = (typeof number === 'bigint' ? toFloat(number) : number) * unit;
  if (!Number.isFinite(scaled)) fail('a number is too large to be rounded');
  return (method === 'ceil' ? Math.ceil(scaled) : Math.floor(scaled)) / unit;
}

const SIZES = ['k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'];

function fileSize(value: Value, isBinary: boolean): string {
  const number = asNumber(value) ?? readFloat(wantText(value, 'filesizeformat'));
  if (number === undefined) return fail('a size is no number');
  const bytes = Number(number);
  const base = isBinary ? 1024 : 1000;
  if (bytes === 1) return '1 Byte';
  if (bytes < base) return `${truncate(bytes)} Bytes`;
  let power = 1;
  while (power < SIZES.length && bytes >= base ** (power + 1)) power += 1;
  const size = SIZES[power - 1]!;
  const unit = isBinary ? `${size.toUpperCase()}iB` : `${size}B`;
  return `${writeFixed((base * bytes) / base ** (power + 1), 1)} ${unit}`;
}

// Text

function indent(text: string, width: Value, first: Value, blank: Value, budget: Budget): string {
  const by =
    asText(width) ?? ' '.repeat(Math.max(0, Math.min(wantInteger(width, 'indent'), 10_000)));
  const lines = splitLines(`${text}\n`);
  budget.checkText(text.length + lines.length * by.length);
  budget.spend(lines.length);
  const indented = lines.map((line, at) => {
    const isIndented = at === 0 ? isTruthy(first) : line !== '' || isTruthy(blank);
    return isIndented ? by + line : line;
  });
  return indented.join('\n');
}

function truncateText(text: string, values: readonly Value[]): string {
  const [length, killWords, end, leeway] = values as [Value, Value, Value, Value];
  const most = wantInteger(length, 'truncate');
  const mark = wantText(end, 'truncate');
  const tolerance = leeway === null ? 5 : wantInteger(leeway, 'truncate');
  if (most < lengthOf(mark) || tolerance < 0) fail('filter "truncate" is given a bad length');
  if (lengthOf(text) <= most + tolerance) return text;
  const cut = substring(text, 0, most - lengthOf(mark));
  if (isTruthy(killWords)) return cut + mark;
  return splitText(cut, ' ', 1, true)[0]! + mark;
}

const WORD_START = new RegExp(`((?:[-({[<]|${PYTHON_SPACE})+)`);

function titleText(text: string): string {
  const parts = text.split(WORD_START);
  return parts.map((part) => part.slice(0, 1).toUpperCase() + part.slice(1).toLowerCase()).join('');
}

/** urllib.parse.quote; within a query also of slashes. */
function urlQuote(value: Value, isQuery: boolean, budget: Budget): string {
  const text = str(value, budget).toWellFormed();
  const quoted = encodeURIComponent(text).replace(/[!'()*]/g, (character) => {
    return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
  });
  return isQuery ? quoted.replaceAll('%20', '+') : quoted.replaceAll('%2F', '/');
}

function urlEncode(runtime: Runtime, value: Value): string {
  const { budget } = runtime;
  if (asText(value) !== undefined || tryIterate(value) === undefined) {
    return urlQuote(value, false, budget);
  }
  const pairs = value instanceof Dict ? new DictView(value, 'items').iterate() : iterate(value);
  return [...pairs]
    .map((pair) => {
      const [key, item, ...more] = iterate(pair);
      if (key === undefined || item === undefined || more.length > 0) {
        return fail('filter "urlencode" wants pairs');
      }
      return `${urlQuote(key, true, budget)}=${urlQuote(item, true, budget)}`;
    })
    .join('&');
}

/** The text of a string, as it is; everything else as str() writes it. Markup is kept. */
const softText = (value: Value, budget: Budget): Value =>
  value instanceof Markup ? value : str(value, budget);

const escaped: Filter = ({ budget }, value) =>
  value instanceof Markup ? value : new Markup(escapeHtml(str(value, budget)));

const defaulted: (name: string) => readonly [string, Filter] = (name) =>
  filter(
    name,
    [
      ['default_value', ''],
      ['boolean', false],
    ],
    (_, value, otherwise, boolean) => {
      const isMissing = value instanceof Undefined || (isTruthy(boolean) && !isTruthy(value));
      return isMissing ? otherwise! : value;
    },
  );

const counted = (name: string) =>
  filter(name, [], ({ budget }, value) => {
    budget.spendText(asText(value)?.length ?? 0);
    return BigInt(len(value) ?? fail(`'${typeName(value)}' has no length`));
  });

/** Not the same twice, or HTML that no prompt wants. */
const REFUSED = ['pprint', 'random', 'striptags', 'urlize', 'wordwrap', 'xmlattr'] as const;

export const FILTERS: ReadonlyMap<string, Filter> = new Map<string, Filter>([
  filter('abs', [], (_, value) => {
    refuseUndefined(value);
    const number = asNumber(value) ?? fail(`'${typeName(value)}' has no absolute value`);
    return typeof number === 'number' ? Math.abs(number) : number < 0n ? -number : number;
  }),
  filter('attr', ['name'], (runtime, value, name) => {
    const found = runtime.attribute(value, wantText(name, 'attr'));
    return found === undefined ? new Undefined('an attribute is not there') : found;
  }),
  filter('batch', ['linecount', ['fill_with', null]], (_, value, size, fill) => {
    return new Generator(batches(value, size, fill));
  }),
  ofText('capitalize', [], (text) => changeText(text, capitalize)),
  ofText('center', [['width', 80n]], (text, { budget }, width) => {
    const size = wantInteger(width, 'center');
    budget.checkText(size);
    const missing = Math.max(0, size - lengthOf(text));
    const left = Math.floor(missing / 2) + (missing & size & 1);
    return ' '.repeat(left) + text + ' '.repeat(missing - left);
  }),
  counted('count'),
  counted('length'),
  defaulted('d'),
  defaulted('default'),
  filter(
    'dictsort',
    [
      ['case_sensitive', false],
      ['by', 'key'],
      ['reverse', false],
    ],
    (runtime, value, isCaseSensitive, by, isReverse) => {
      if (by !== 'key' && by !== 'value') fail('by must be key or value');
      if (!(value instanceof Dict)) fail(`'${typeName(value)}' cannot be sorted as a dict`);
      const getter = getterOf(runtime, by === 'key' ? 0n : 1n);
      const items = new DictView(value as Dict, 'items').iterate();
      return sorted(runtime, items, keyOf(getter, isCaseSensitive), isReverse);
    },
  ),
  ['e', escaped],
  ['escape', escaped],
  filter('filesizeformat', [['binary', false]], (_, value, isBinary) => {
    refuseUndefined(value);
    return fileSize(value, isTruthy(isBinary));
  }),
  filter('first', [], (_, value) => {
    for (const each of iterate(value)) return each;
    return new Undefined('the sequence is empty');
  }),
  filter('float', [['default', 0]], (_, value, otherwise) => {
    refuseUndefined(value);
    const number = asNumber(value) ?? readFloat(unmark(asText(value) ?? ''));
    if (number === undefined) return otherwise;
    return typeof number === 'bigint' ? toFloat(number) : number;
  }),
  filter('forceescape', [], ({ budget }, value) => {
    return new Markup(escapeHtml(str(value, budget)));
  }),
  [
    'format',
    ({ budget }, value, { positional, named }) => {
      if (positional.length > 0 && named.size > 0)
        fail('filter "format" takes one kind of arguments');
      const values = named.size > 0 ? new Dict(named) : new Tuple(positional);
      return formatPercent(str(value, budget), values, budget);
    },
  ],
  filter(
    'groupby',
    ['attribute', ['default', null], ['case_sensitive', false]],
    (runtime, value, attribute, otherwise, isCaseSensitive) => {
      const name = getterOf(runtime, attribute, otherwise);
      const values = listOf(value, runtime.budget);
      return groups(runtime, values, keyOf(name, isCaseSensitive), name);
    },
  ),
  filter(
    'indent',
    [
      ['width', 4n],
      ['first', false],
      ['blank', false],
    ],
    ({ budget }, value, width, first, blank) => {
      const text = wantText(value, 'filter "indent"');
      budget.spendText(text.length);
      return indent(text, width, first, blank, budget);
    },
  ),
  filter(
    'int',
    [
      ['default', 0n],
      ['base', 10n],
    ],
    (_, value, otherwise, base) => {
      return toInteger(value, otherwise, base);
    },
  ),
  filter('items', [], (_, value) => {
    if (value instanceof Undefined) return new Generator([]);
    if (value instanceof Dict) return new Generator(new DictView(value, 'items').iterate());
    return fail(`'${typeName(value)}' has no items: only a mapping has`);
  }),
  filter(
    'join',
    [
      ['d', ''],
      ['attribute', null],
    ],
    (runtime, value, separator, attribute) => {
      const { budget } = runtime;
      const getter = getterOf(runtime, attribute);
      const texts = listOf(value, budget).map((each) => str(getter(each), budget));
      return joinText(str(separator, budget), texts, budget);
    },
  ),
  filter('last', [], ({ budget }, value) => {
    const [last] = reversed(value, budget) ?? fail(`'${typeName(value)}' has no last item`);
    return last === undefined ? new Undefined('the sequence is empty') : last;
  }),
  filter('list', [], ({ budget }, value) => listOf(value, budget)),
  ofText('lower', [], (text) => changeText(text, (each) => each.toLowerCase())),
  ['map', map],
  extreme('max'),
  extreme('min'),
  selecting('reject', false, false),
  selecting('rejectattr', false, true),
  filter('replace', ['old', 'new', ['count', null]], ({ budget }, value, old, by, count) => {
    const times = count === null ? -1 : wantInteger(count, 'filter "replace"');
    const text = str(value, budget);
    budget.spendText(text.length);
    return replaceText(text, str(old, budget), str(by, budget), times, budget);
  }),
  filter('reverse', [], ({ budget }, value) => {
    const items = reversed(value, budget);
    if (asText(value) !== undefined) return (items as string[]).join('');
    // An iterator over a sequence, a list of anything else.
    return items === undefined ? listOf(value, budget).reverse() : new Generator(items);
  }),
  filter(
    'round',
    [
      ['precision', 0n],
      ['method', 'common'],
    ],
    (_, value, precision, method) => {
      return round(value, precision, plain(method));
    },
  ),
  filter('safe', [], ({ budget }, value) => new Markup(str(value, budget))),
  selecting('select', true, false),
  selecting('selectattr', true, true),
  filter('slice', ['slices', ['fill_with', null]], (runtime, value, count, fill) => {
    return new Generator(slices(runtime, value, count, fill));
  }),
  filter(
    'sort',
    [
      ['reverse', false],
      ['case_sensitive', false],
      ['attribute', null],
    ],
    (runtime, value, isReverse, isCaseSensitive, attribute) => {
      const text = asText(attribute);
      const names = text === undefined ? [attribute] : text.split(',');
      const keys = names.map((name) => keyOf(getterOf(runtime, name), isCaseSensitive));
      const key: Getter = (each) => keys.map((getter) => getter(each));
      return sorted(runtime, listOf(value, runtime.budget), key, isReverse);
    },
  ),
  filter('string', [], ({ budget }, value) => softText(value, budget)),
  filter(
    'sum',
    [
      ['attribute', null],
      ['start', 0n],
    ],
    (runtime, value, attribute, start) => {
      if (asText(start) !== undefined) fail('filter "sum" does not join strings');
      const getter = getterOf(runtime, attribute);
      let sum = start;
      for (const each of iterate(value)) {
        sum = arithmetic('+', sum, getter(each), runtime.budget);
      }
      return sum;
    },
  ),
  ofText('title', [], (text) => changeText(text, titleText)),
  ofText('trim', [['chars', null]], (text, _, chars) => {
    const only = chars === null ? undefined : wantText(chars, 'filter "trim"');
    return trimStart(trimEnd(text, only), only);
  }),
  filter(
    'truncate',
    [
      ['length', 255n],
      ['killwords', false],
      ['end', '...'],
      ['leeway', null],
    ],
    (_, value, ...values) => truncateText(wantText(value, 'filter "truncate"'), values),
  ),
  filter(
    'unique',
    [
      ['case_sensitive', false],
      ['attribute', null],
    ],
    (runtime, value, isCaseSensitive, attribute) => {
      const key = keyOf(getterOf(runtime, attribute), isCaseSensitive);
      return new Generator(uniques(runtime, value, key));
    },
  ),
  ofText('upper', [], (text) => changeText(text, (each) => each.toUpperCase())),
  filter('urlencode', [], (runtime, value) => urlEncode(runtime, value)),
  ofText('wordcount', [], (text) => BigInt(unmark(text).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0)),
  ...REFUSED.map((name): readonly [string, Filter] => [
    name,
    () => fail(`the filter "${name}" is not supported`),
  ]),
]);
