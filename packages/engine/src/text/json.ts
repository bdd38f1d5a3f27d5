/** JSON as Python reads and writes it: keys in order, 1.0 apart from 1, integers of any size. */
import { wantText } from './jinja/arguments.ts';
import { Budget } from './jinja/budget.ts';
import { fail } from './jinja/errors.ts';
import { writeFloat, writeInteger } from './jinja/numbers.ts';
import { asIndex, compare, refuseUndefined } from './jinja/operators.ts';
import { asText, Dict, isTruthy, iterate, Tuple, typeName, type Value } from './jinja/values.ts';

/** Of arrays and objects within each other. Schemas of tools have some ten. */
const MAX_DEPTH = 200;
/** Python reads no longer integers. */
const MAX_INTEGER_DIGITS = 4300;

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?/y;
const SPACE = /[ \t\n\r]*/y;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** JSON's strings have no characters before the space. */
const FIRST_PRINTED = 0x20;

export type JsonErrorCode =
  | 'not-json'
  /** Nested deeper than is read. */
  | 'too-deep'
  /** An integer of more digits than are read. */
  | 'too-many-digits';

/** Why a text was not read. The message is fit for a client and quotes nothing. */
export class JsonError extends Error {
  override readonly name = 'JsonError';
  readonly code: JsonErrorCode;

  constructor(code: JsonErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Reads a JSON text into values for templates. Throws JsonError. */
export function readJsonValue(text: string): Value {
  return new Reader(text).run();
}

class Reader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  run(): Value {
    const value = this.#value();
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail();
    return value;
  }

  #value(): Value {
    this.#skipSpace();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object();
      case '[':
        return this.#array();
      case '"':
        return this.#string();
      case 't':
        return this.#literal('true', true);
      case 'f':
        return this.#literal('false', false);
      case 'n':
        return this.#literal('null', null);
      default:
        return this.#number();
    }
  }

  /** Reads the bracket that opens an array or an object. Whether it closes at once. */
  #opensEmpty(closing: string): boolean {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) {
      throw new JsonError('too-deep', `is nested deeper than ${MAX_DEPTH} levels`);
    }
    this.#at += 1;
    this.#skipSpace();
    return this.#text[this.#at] === closing && this.#closes(closing);
  }

  /** Whether `closing` or a comma comes next, which is read. */
  #closes(closing: string): boolean {
    this.#skipSpace();
    const character = this.#text[this.#at];
    if (character !== closing && character !== ',') this.#fail();
    this.#at += 1;
    if (character === ',') return false;
    this.#depth -= 1;
    return true;
  }

  #object(): Dict {
    const object = new Dict();
    if (this.#opensEmpty('}')) return object;
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') this.#fail();
      const key = this.#string();
      this.#skipSpace();
      if (this.#text[this.#at] !== ':') this.#fail();
      this.#at += 1;
      object.set(key, this.#value());
    } while (!this.#closes('}'));
    return object;
  }

  #array(): Value[] {
    const array: Value[] = [];
    if (this.#opensEmpty(']')) return array;
    do array.push(this.#value());
    while (!this.#closes(']'));
    return array;
  }

  #string(): string {
    const text = this.#text;
    const start = this.#at;
    let isPlain = true;
    let end = start + 1;
    for (let code = text.charCodeAt(end); code !== QUOTE; code = text.charCodeAt(end)) {
      // Also false for the NaN after the end.
      if (!(code >= FIRST_PRINTED)) this.#fail();
      if (code === BACKSLASH) isPlain = false;
      end += code === BACKSLASH ? 2 : 1;
    }
    this.#at = end + 1;
    if (isPlain) return text.slice(start + 1, end);
    try {
      return JSON.parse(text.slice(start, this.#at));
    } catch {
      return this.#fail();
    }
  }

  #literal(text: string, value: null | boolean): null | boolean {
    if (!this.#text.startsWith(text, this.#at)) this.#fail();
    this.#at += text.length;
    return value;
  }

  #number(): bigint | number {
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.#text);
    if (found === null) return this.#fail();
    const [text, fraction, exponent] = found;
    this.#at += text.length;
    if (fraction !== undefined || exponent !== undefined) return Number(text);
    if (text.length <= MAX_INTEGER_DIGITS) return BigInt(text);
    const message = `has an integer of more than ${MAX_INTEGER_DIGITS} digits`;
    throw new JsonError('too-many-digits', message);
  }

  #skipSpace(): void {
    if (this.#text.charCodeAt(this.#at) > FIRST_PRINTED) return;
    SPACE.lastIndex = this.#at;
    SPACE.exec(this.#text);
    this.#at = SPACE.lastIndex;
  }

  #fail(): never {
    throw new JsonError('not-json', 'is not valid JSON');
  }
}

/** json.dumps's options as templates give them. */
export interface JsonFormat {
  readonly ensureAscii: Value;
  readonly indent: Value;
  readonly separators: Value;
  readonly sortKeys: Value;
}

/** json.dumps. Throws JinjaError where Python raises. */
export function writeJsonValue(value: Value, format: JsonFormat, budget: Budget): string {
  return new Writer(format, budget).write(value, 0);
}

/** A value as it was read: keys in their order, 1.0 apart from 1, integers of any size. */
export function exactJson(value: Value): string {
  const format = { ensureAscii: false, indent: null, separators: [',', ':'], sortKeys: false };
  return writeJsonValue(value, format, new Budget());
}

class Writer {
  readonly #budget: Budget;
  readonly #escapes: RegExp;
  readonly #indent: string | undefined;
  readonly #separators: readonly [string, string];
  readonly #sortKeys: boolean;

  constructor(format: JsonFormat, budget: Budget) {
    this.#budget = budget;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what JSON escapes
    this.#escapes = isTruthy(format.ensureAscii) ? /[^ !#-[\]-~]/g : /[\0-\x1f"\\]/g;
    this.#indent = indentOf(format.indent);
    this.#separators = separatorsOf(format.separators, this.#indent !== undefined);
    this.#sortKeys = isTruthy(format.sortKeys);
  }

  write(value: Value, depth: number): string {
    this.#budget.spend();
    const text = asText(value);
    if (text !== undefined) return this.#string(text);
    if (value === null) return 'null';
    if (typeof value === 'boolean') return String(value);
    if (typeof value === 'bigint') return writeInteger(value);
    if (typeof value === 'number') return writeNumber(value);
    if (Array.isArray(value)) return this.#array(value, depth);
    if (value instanceof Tuple) return this.#array(value.items, depth);
    if (value instanceof Dict) return this.#object(value, depth);
    refuseUndefined(value);
    return fail(`'${typeName(value)}' cannot be written as JSON`);
  }

  #string(text: string): string {
    this.#budget.spendText(text.length);
    return `"${text.replace(this.#escapes, escaped)}"`;
  }

  #array(items: readonly Value[], depth: number): string {
    return this.#wrapped('[', ']', items, depth, (item) => this.write(item, depth + 1));
  }

  #object(object: Dict, depth: number): string {
    const entries = [...object.entries()];
    if (this.#sortKeys) entries.sort(([a], [b]) => compare(a, b, this.#budget));
    return this.#wrapped('{', '}', entries, depth, ([key, value]) => {
      return `${this.#string(keyText(key))}${this.#separators[1]}${this.write(value, depth + 1)}`;
    });
  }

  #wrapped<T>(
    open: string,
    close: string,
    items: readonly T[],
    depth: number,
    write: (item: T) => string,
  ): string {
    if (items.length === 0) return open + close;
    this.#budget.enter();
    const line = (levels: number) =>
      this.#indent === undefined ? '' : `\n${this.#indent.repeat(levels)}`;
    const between = this.#separators[0] + line(depth + 1);
    let text = open + line(depth + 1);
    items.forEach((item, at) => {
      text += (at === 0 ? '' : between) + write(item);
      this.#budget.checkText(text.length);
    });
    this.#budget.leave();
    return text + line(depth) + close;
  }
}

function indentOf(value: Value): string | undefined {
  if (value === null) return undefined;
  const text = asText(value);
  if (text !== undefined) return text;
  const width = asIndex(value);
  if (width === undefined) return fail('indent must be an integer, a string or none');
  if (width > 1000) fail('indent is too large');
  return ' '.repeat(Math.max(0, width));
}

function separatorsOf(value: Value, isIndented: boolean): readonly [string, string] {
  if (value === null) return [isIndented ? ',' : ', ', ': '];
  const [item, key, ...more] = iterate(value);
  if (more.length > 0) fail('separators must be two');
  return [wantText(item, 'separators'), wantText(key, 'separators')];
}

const NAMED: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\b': '\\b',
};

function escaped(character: string): string {
  const code = character.charCodeAt(0).toString(16).padStart(4, '0');
  return NAMED[character] ?? `\\u${code}`;
}

function writeNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  return writeFloat(value);
}

function keyText(key: Value): string {
  const text = asText(key);
  if (text !== undefined) return text;
  if (key === null) return 'null';
  if (typeof key === 'boolean') return String(key);
  if (typeof key === 'bigint') return writeInteger(key);
  return typeof key === 'number' ? writeNumber(key) : fail(`'${typeName(key)}' is no key of JSON`);
}
