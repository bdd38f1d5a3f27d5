/** How Python formats: the `%` operator, str.format and format specifications. */
import type { Budget } from './budget.ts';
import { fail } from './errors.ts';
import { toFloat, truncate, writeFixed, writeFloat, writeInteger } from './numbers.ts';
import { characters, lengthOf, substring } from './text.ts';
import {
  asNumber,
  asText,
  Dict,
  Range,
  repr,
  str,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** More characters of padding or digits than any prompt wants. */
const MAX_WIDTH = 10_000;

interface Specification {
  readonly fill: string;
  /** `=` puts the padding between sign and digits. */
  readonly align: string;
  readonly sign: string;
  readonly isAlternate: boolean;
  readonly width: number;
  /** `,` or `_` between groups of digits, or nothing. */
  readonly grouping: string;
  readonly precision: number | undefined;
  readonly type: string;
}

function sized(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  const size = Number(text);
  return size <= MAX_WIDTH ? size : fail('a format is too wide');
}

function pad(body: string, sign: string, { fill, align, width }: Specification): string {
  const missing = width - lengthOf(sign) - lengthOf(body);
  if (missing <= 0) return sign + body;
  const left = align === '^' ? Math.floor(missing / 2) : missing;
  if (align === '=') return sign + fill.repeat(missing) + body;
  if (align === '<') return sign + body + fill.repeat(missing);
  return fill.repeat(left) + sign + body + fill.repeat(missing - left);
}

function grouped(digits: string, separator: string, size = 3): string {
  if (separator === '') return digits;
  const [whole, rest] = digits.split(/(?=[.e])/, 2) as [string, string?];
  const pattern = new RegExp(`(?<=[\\da-f])(?=(?:[\\da-f]{${size}})+$)`, 'gi');
  return (
    whole.replace(pattern, separator) +
    (rest ?? '') +
    digits.slice(whole.length + (rest ?? '').length)
  );
}

function writeExponent(value: number, precision: number): string {
  const [digits, exponent] = value.toExponential(precision).split('e') as [string, string];
  return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
}

/** A finite float of at least zero, as `e`, `f` or `g` write it. */
function writeMagnitude(
  value: number,
  type: string,
  precision: number,
  keepZeros: boolean,
): string {
  if (type === 'f') return writeFixed(value, precision);
  if (type === 'e') return writeExponent(value, Math.min(precision, 100));
  const significant = Math.min(precision === 0 ? 1 : precision, 100);
  const exponent = value === 0 ? 0 : Number(value.toExponential(significant - 1).split('e')[1]);
  const isPlain = exponent >= -4 && exponent < significant;
  const text = isPlain
    ? writeFixed(value, significant - 1 - exponent)
    : writeExponent(value, significant - 1);
  if (keepZeros || !text.includes('.')) return text;
  return text.replace(/\.?0+(?=e|$)/, '');
}

function formatFloat(value: number, specification: Specification): string {
  const { sign, type, precision, grouping } = specification;
  const isNegative = value < 0 || Object.is(value, -0);
  const mark = isNegative ? '-' : sign === '-' ? '' : sign;
  const magnitude = Math.abs(value);
  const kind = type.toLowerCase();
  let text: string;
  if (!Number.isFinite(magnitude)) text = Number.isNaN(value) ? 'nan' : 'inf';
  else if (type === '' && precision === undefined) text = writeFloat(magnitude);
  else if (type === '%') text = `${writeFixed(magnitude * 100, precision ?? 6)}%`;
  else if (type === '') text = withPoint(writeMagnitude(magnitude, 'g', precision!, false));
  else text = writeMagnitude(magnitude, kind, precision ?? 6, specification.isAlternate);
  const isUpper = type !== '' && type === type.toUpperCase() && type !== '%';
  const body = grouped(isUpper ? text.toUpperCase() : text, grouping);
  return pad(body, Number.isNaN(value) ? mark.replace('-', '') : mark, specification);
}

const withPoint = (text: string) => (/[.en]/.test(text) ? text : `${text}.0`);

const RADIX: Readonly<Record<string, number>> = { b: 2, o: 8, x: 16, X: 16 };

function formatInteger(value: bigint, specification: Specification): string {
  const { sign, type, grouping, isAlternate } = specification;
  if (type === 'c') return pad(String.fromCodePoint(Number(value)), '', specification);
  const magnitude = value < 0n ? -value : value;
  const radix = RADIX[type];
  const digits = radix === undefined ? writeInteger(magnitude) : magnitude.toString(radix);
  const prefix = isAlternate && radix !== undefined ? `0${type.toLowerCase()}` : '';
  const mark = (value < 0n ? '-' : sign === '-' ? '' : sign) + prefix;
  const body = grouped(digits, grouping, radix === undefined ? 3 : 4);
  const isUpper = type === 'X';
  return pad(
    isUpper ? body.toUpperCase() : body,
    isUpper ? mark.toUpperCase() : mark,
    specification,
  );
}

const SPECIFICATION =
  /^(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([bcdeEfFgGnosxX%])?$/su;

/** format(value, text). */
function formatValue(value: Value, text: string, budget: Budget): string {
  if (text === '') return str(value, budget);
  const found = SPECIFICATION.exec(text);
  if (found === null) return fail('a format specification is not valid');
  const [, fill, align, sign = '-', alternate, zero, width, grouping = '', precision, type = ''] =
    found;
  const number = asNumber(value);
  const isText = number === undefined;
  const specification: Specification = {
    fill: fill ?? (zero !== undefined ? '0' : ' '),
    align: align ?? (isText ? '<' : zero !== undefined ? '=' : '>'),
    sign,
    isAlternate: alternate !== undefined,
    width: sized(width) ?? 0,
    grouping,
    precision: sized(precision),
    type,
  };
  if (number === undefined) {
    const content = asText(value);
    if (content === undefined) fail(`'${typeName(value)}' takes no format specification`);
    if ((type !== '' && type !== 's') || found[3] || alternate || specification.align === '=') {
      fail('a format specification is not valid for a string');
    }
    const cut = substring(content!, 0, specification.precision ?? content!.length);
    return pad(cut, '', specification);
  }
  if (type === 's') fail('a number has no format "s"');
  if (type === 'n') fail('the format "n" is not supported');
  if (typeof number === 'number' || (type !== '' && 'eEfFgG%'.includes(type))) {
    if (type !== '' && !'eEfFgG%'.includes(type)) fail(`a float has no format "${type}"`);
    return formatFloat(typeof number === 'bigint' ? toFloat(number) : number, specification);
  }
  if (precision !== undefined) fail('an integer has no precision');
  return formatInteger(number, { ...specification, type: type === 'd' ? '' : type });
}

const CONVERSION = /%(?:\(([^()]*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d*))?[hlL]?([\s\S])?/g;

/** `text % values` */
export function formatPercent(text: string, values: Value, budget: Budget): string {
  const isTuple = values instanceof Tuple;
  const isMapping =
    values instanceof Dict ||
    Array.isArray(values) ||
    values instanceof Range ||
    values instanceof Undefined;
  const given = isTuple ? values.items : [values];
  let used = 0;
  const next = (): Value => {
    if (used >= given.length) fail('not enough arguments for a format string');
    used += 1;
    return given[used - 1]!;
  };
  const size = (written: string | undefined): number | undefined => {
    if (written !== '*') return sized(written);
    const value = next();
    return typeof value === 'bigint' ? sized(String(value)) : fail('* wants an integer');
  };
  budget.spendText(text.length);
  const result = text.replace(CONVERSION, (_, key, flags: string, width, precision, type) => {
    if (type === '%') return '%';
    if (type === undefined) fail('a format string is not complete');
    const fieldWidth = size(width) ?? 0;
    const digits = size(precision) ?? (precision === '' ? 0 : undefined);
    let value: Value;
    if (key === undefined) value = next();
    else {
      if (!(values instanceof Dict)) fail('a format string requires a mapping');
      used = given.length;
      const named = (values as Dict).get(key);
      value = named === undefined ? fail('a format string names a key that is not there') : named;
    }
    const left = flags.includes('-');
    const specification: Specification = {
      fill: flags.includes('0') && !left ? '0' : ' ',
      align: left ? '<' : flags.includes('0') ? '=' : '>',
      sign: flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '-',
      isAlternate: flags.includes('#'),
      width: fieldWidth,
      grouping: '',
      precision: digits,
      type,
    };
    const written = convert(value, specification, budget);
    budget.spendText(written.length);
    return written;
  });
  if (used < given.length && !isMapping) fail('not all arguments of a format string are used');
  budget.checkText(result.length);
  return result;
}

function convert(value: Value, specification: Specification, budget: Budget): string {
  const { type, precision } = specification;
  if (type === 's' || type === 'r' || type === 'a') {
    const text = type === 's' ? str(value, budget) : repr(value, budget);
    if (type === 'a') fail('the conversion %a is not supported');
    const align = specification.align === '=' ? '>' : specification.align;
    const cut = precision === undefined ? text : substring(text, 0, precision);
    return pad(cut, '', { ...specification, align, fill: ' ' });
  }
  if (type === 'c') {
    const text = asText(value);
    if (text !== undefined && characters(text).length !== 1) fail('%c requires one character');
    const character = text ?? (typeof value === 'bigint' && String.fromCodePoint(Number(value)));
    if (character === false) fail('%c requires an integer or a character');
    return pad(character as string, '', specification);
  }
  const number = asNumber(value);
  if (number === undefined) {
    if (value instanceof Undefined) fail(value.reason);
    return fail(`%${type} requires a number, not '${typeName(value)}'`);
  }
  if ('diu'.includes(type) || 'oxX'.includes(type)) {
    if (typeof number === 'number' && !'diu'.includes(type)) fail(`%${type} requires an integer`);
    const integer = typeof number === 'number' ? truncate(number) : number;
    const kind = 'diu'.includes(type) ? '' : type;
    if (precision === undefined) return formatInteger(integer, { ...specification, type: kind });
    const digits = formatInteger(integer < 0n ? -integer : integer, {
      ...specification,
      type: kind,
      sign: '-',
      isAlternate: false,
      width: 0,
    }).padStart(precision, '0');
    const sign = integer < 0n ? '-' : specification.sign === '-' ? '' : specification.sign;
    return pad(digits, sign, specification);
  }
  if (!'eEfFgG'.includes(type)) fail('a format string has an unknown conversion');
  const float = typeof number === 'bigint' ? toFloat(number) : number;
  // inf and nan are never padded with zeros by %.
  const padding = Number.isFinite(float)
    ? {}
    : { fill: ' ', align: specification.align === '=' ? '>' : specification.align };
  return formatFloat(float, { ...specification, ...padding });
}

/** What str.format looks fields up with: `{name}`, `{0.attribute}`, `{0[key]}`. */
export interface FormatFields {
  readonly positional: readonly Value[];
  readonly named: (name: string) => Value | undefined;
  readonly attribute: (value: Value, name: string) => Value;
  readonly item: (value: Value, key: Value) => Value;
}

/** str.format, within the sandbox. */
export function formatFieldsOf(text: string, fields: FormatFields, budget: Budget): string {
  return new FieldFormatter(fields, budget).format(text, 2);
}

class FieldFormatter {
  readonly #fields: FormatFields;
  readonly #budget: Budget;
  #automatic = 0;
  #isManual = false;

  constructor(fields: FormatFields, budget: Budget) {
    this.#fields = fields;
    this.#budget = budget;
  }

  /** `levels`: a specification may have fields of its own, and those no further. */
  format(text: string, levels: number): string {
    if (levels < 0) fail('a format string is nested too deeply');
    this.#budget.spendText(text.length);
    let result = '';
    let at = 0;
    while (at < text.length) {
      const character = text[at]!;
      if (character !== '{' && character !== '}') {
        const end = text.slice(at).search(/[{}]/);
        const stop = end < 0 ? text.length : at + end;
        result += text.slice(at, stop);
        at = stop;
      } else if (text[at + 1] === character) {
        result += character;
        at += 2;
      } else if (character === '}') {
        fail("a single '}' is in a format string");
      } else {
        const end = closing(text, at);
        result += this.#field(text.slice(at + 1, end), levels);
        at = end + 1;
      }
      this.#budget.checkText(result.length);
    }
    return result;
  }

  #field(text: string, levels: number): string {
    const found = /^([^!:]*)(?:!([^:]*))?(?::([\s\S]*))?$/.exec(text);
    if (found === null) return fail('a field of a format string is not valid');
    const [, path, conversion, specification = ''] = found;
    let value = this.#lookUp(path!);
    if (conversion === 'r') value = repr(value, this.#budget);
    else if (conversion === 's') value = str(value, this.#budget);
    else if (conversion !== undefined) fail('a conversion of a format string is not supported');
    return formatValue(value, this.format(specification, levels - 1), this.#budget);
  }

  #lookUp(path: string): Value {
    const [, first, rest] = /^([^.[]*)([\s\S]*)$/.exec(path)!;
    let value = this.#first(first!);
    let left = rest!;
    while (left !== '') {
      const part = /^(?:\.([^.[]+)|\[([^\]]+)\])/.exec(left);
      if (part === null) return fail('a field of a format string is not valid');
      const [whole, attribute, key] = part;
      if (attribute !== undefined) value = this.#fields.attribute(value, attribute);
      else value = this.#fields.item(value, /^\d+$/.test(key!) ? BigInt(key!) : key!);
      left = left.slice(whole.length);
    }
    return value;
  }

  #first(name: string): Value {
    if (name !== '' && !/^\d+$/.test(name)) {
      const named = this.#fields.named(name);
      return named === undefined ? fail('a format string names what is not given') : named;
    }
    if (name === '' ? this.#isManual : this.#automatic > 0) {
      fail('a format string mixes numbered and automatic fields');
    }
    if (name !== '') this.#isManual = true;
    const index = name === '' ? this.#automatic : Number(name);
    if (name === '') this.#automatic += 1;
    const given = this.#fields.positional[index];
    return given === undefined ? fail('a format string has too few arguments') : given;
  }
}

function closing(text: string, open: number): number {
  let depth = 0;
  for (let at = open; at < text.length; at += 1) {
    if (text[at] === '{') depth += 1;
    if (text[at] === '}') depth -= 1;
    if (depth === 0) return at;
  }
  return fail("a '{' of a format string is not closed");
}
