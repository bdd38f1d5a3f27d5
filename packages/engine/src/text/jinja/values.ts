import { unmark } from '../marks.ts';
import type { Budget } from './budget.ts';
import { fail } from './errors.ts';
import { writeFloat, writeInteger } from './numbers.ts';
import { lengthOf, quote } from './text.ts';

/**
 * A value of Python: None, a bool, an int (bigint), a float (number), a str, a list, or one of the
 * classes below. No template can change one, except through a Namespace.
 */
export type Value = null | boolean | bigint | number | string | Value[] | PyObject;

/** What is given to a function, a filter or a test. */
export interface Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

/** What Python's protocols ask an object for. A method that is not overridden is not supported. */
export abstract class PyObject {
  /** Python's name of its type. */
  abstract readonly typeName: string;

  get isTruthy(): boolean {
    return this.length() !== 0;
  }

  /** len(); undefined where Python raises TypeError. */
  length(): number | undefined {
    return undefined;
  }

  /** iter(); undefined where Python raises TypeError. */
  iterate(): Iterable<Value> | undefined {
    return undefined;
  }

  /** An attribute of its own. Methods of builtin types are in `methods.ts`. */
  attribute(_name: string): Value | undefined {
    return undefined;
  }

  /** repr(). */
  write(_budget: Budget): string {
    return fail(`${withArticle(this.typeName)} has no text that could be relied on`);
  }
}

/** What is not there: empty text, nothing to iterate over, and an error wherever it is used. */
export class Undefined extends PyObject {
  readonly typeName = 'Undefined';
  /** Why it is not there, for the error. */
  readonly reason: string;

  constructor(reason: string) {
    super();
    this.reason = reason;
  }

  override length(): number {
    return 0;
  }

  override iterate(): Iterable<Value> {
    return [];
  }

  override write(): string {
    return 'Undefined';
  }
}

/** A str that is not escaped again. Where it is not joined to another str, it is one. */
export class Markup extends PyObject {
  readonly typeName = 'Markup';
  readonly text: string;

  constructor(text: string) {
    super();
    this.text = text;
  }

  override write(): string {
    return `Markup(${quote(this.text)})`;
  }
}

export class Tuple extends PyObject {
  readonly typeName = 'tuple';
  readonly items: readonly Value[];
  /** Of a named tuple: what `groupby` gives. */
  readonly #names: readonly string[];

  constructor(items: readonly Value[], names: readonly string[] = []) {
    super();
    this.items = items;
    this.#names = names;
  }

  override length(): number {
    return this.items.length;
  }

  override iterate(): Iterable<Value> {
    return this.items;
  }

  override attribute(name: string): Value | undefined {
    return this.items[this.#names.indexOf(name)];
  }

  override write(budget: Budget): string {
    const inner = writeAll(this.items, budget);
    return this.items.length === 1 ? `(${inner},)` : `(${inner})`;
  }
}

/** range(): counted, never stored. */
export class Range extends PyObject {
  readonly typeName = 'range';
  readonly start: bigint;
  readonly stop: bigint;
  readonly step: bigint;
  readonly #length: number;

  constructor(start: bigint, stop: bigint, step: bigint) {
    super();
    this.start = start;
    this.stop = stop;
    this.step = step;
    const span = step > 0n ? stop - start : start - stop;
    const stride = step > 0n ? step : -step;
    this.#length = span <= 0n ? 0 : Number((span + stride - 1n) / stride);
  }

  override length(): number {
    return this.#length;
  }

  at(index: number): bigint {
    return this.start + BigInt(index) * this.step;
  }

  override *iterate(): Iterable<Value> {
    for (let index = 0; index < this.#length; index += 1) yield this.at(index);
  }

  override attribute(name: string): Value | undefined {
    return name === 'start' || name === 'stop' || name === 'step' ? this[name] : undefined;
  }

  override write(): string {
    const step = this.step === 1n ? '' : `, ${this.step}`;
    return `range(${this.start}, ${this.stop}${step})`;
  }
}

/** Equal in Python, equal here: 1, 1.0 and True are one key, and so is text, marked or not. */
type Key = string | bigint | number | null | PyObject | typeof Undefined;

function keyOf(value: Value): Key {
  if (typeof value === 'string') return unmark(value);
  if (typeof value === 'boolean') return value ? 1n : 0n;
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : value;
  if (value instanceof Markup) return unmark(value.text);
  if (value instanceof Undefined) return Undefined;
  if (value instanceof Tuple) return fail('a tuple as a key is not supported');
  if (Array.isArray(value) || value instanceof Dict) {
    return fail(`unhashable type: '${typeName(value)}'`);
  }
  return value;
}

/** A dict: in the order in which its keys came. */
export class Dict extends PyObject {
  readonly typeName = 'dict';
  readonly #values = new Map<Key, Value>();
  /** Keys that are spelled otherwise, as they were spelled first. */
  #spelled: Map<Key, Value> | undefined;

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    super();
    for (const [key, value] of entries) this.set(key, value);
  }

  get(key: Value): Value | undefined {
    return this.#values.get(keyOf(key));
  }

  has(key: Value): boolean {
    return this.#values.has(keyOf(key));
  }

  /** For the code that builds it: a key that is there keeps its place and spelling. */
  set(key: Value, value: Value): void {
    const known = keyOf(key);
    if (known !== key && !this.#values.has(known)) {
      this.#spelled ??= new Map();
      this.#spelled.set(known, key);
    }
    this.#values.set(known, value);
  }

  /** As `set`: for the code that builds it. */
  delete(key: Value): void {
    const known = keyOf(key);
    this.#values.delete(known);
    this.#spelled?.delete(known);
  }

  *entries(): Iterable<readonly [Value, Value]> {
    for (const [key, value] of this.#values) yield [this.#spelling(key), value];
  }

  #spelling(key: Key): Value {
    // What is not in there is spelled as it is known.
    return this.#spelled?.get(key) ?? (key as Value);
  }

  override length(): number {
    return this.#values.size;
  }

  override *iterate(): Iterable<Value> {
    for (const key of this.#values.keys()) yield this.#spelling(key);
  }

  override write(budget: Budget): string {
    budget.enter();
    const parts = [];
    for (const [key, value] of this.entries()) {
      parts.push(`${repr(key, budget)}: ${repr(value, budget)}`);
    }
    budget.leave();
    return `{${joined(parts, budget)}}`;
  }
}

type Part = 'keys' | 'values' | 'items';

/** What a dict's keys(), values() and items() give. */
export class DictView extends PyObject {
  readonly typeName: string;
  readonly part: Part;
  readonly #dict: Dict;

  constructor(dict: Dict, part: Part) {
    super();
    this.#dict = dict;
    this.part = part;
    this.typeName = `dict_${part}`;
  }

  override length(): number {
    return this.#dict.length();
  }

  override *iterate(): Iterable<Value> {
    for (const [key, value] of this.#dict.entries()) {
      if (this.part === 'items') yield new Tuple([key, value]);
      else yield this.part === 'keys' ? key : value;
    }
  }

  override write(budget: Budget): string {
    return `${this.typeName}([${writeAll([...this.iterate()], budget)}])`;
  }
}

/** A generator: true whatever it holds, has no length, and can be gone through once. */
export class Generator extends PyObject {
  readonly typeName = 'generator';
  readonly #iterator: IterableIterator<Value>;

  constructor(values: Iterable<Value>) {
    super();
    const iterator = values[Symbol.iterator]();
    // A loop that is left early must not end it: the next one goes on.
    this.#iterator = {
      next: () => iterator.next(),
      [Symbol.iterator]() {
        return this;
      },
    };
  }

  override get isTruthy(): boolean {
    return true;
  }

  override iterate(): Iterable<Value> {
    return this.#iterator;
  }
}

/** namespace(): the one thing that a template can change. */
export class Namespace extends PyObject {
  readonly typeName = 'Namespace';
  readonly values: Dict;

  constructor(values: Dict) {
    super();
    this.values = values;
  }

  override attribute(name: string): Value | undefined {
    return this.values.get(name);
  }

  override write(budget: Budget): string {
    budget.enter();
    const text = `<Namespace ${repr(this.values, budget)}>`;
    budget.leave();
    return text;
  }
}

/** Whatever can be called. */
export class Callable extends PyObject {
  readonly typeName: string;
  readonly call: (args: Arguments) => Value;

  constructor(typeName: string, call: (args: Arguments) => Value) {
    super();
    this.typeName = typeName;
    this.call = call;
  }
}

export function typeName(value: Value): string {
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'bigint':
      return 'int';
    case 'number':
      return 'float';
    case 'string':
      return 'str';
    default:
      if (value === null) return 'NoneType';
      return Array.isArray(value) ? 'list' : value.typeName;
  }
}

const withArticle = (name: string) => `${/^[aeiou]/i.test(name) ? 'an' : 'a'} ${name}`;

export function isTruthy(value: Value): boolean {
  if (value instanceof Markup) return value.text !== '';
  if (value instanceof PyObject) return value.isTruthy;
  if (Array.isArray(value)) return value.length > 0;
  // A nan is true in Python.
  return typeof value === 'number' ? value !== 0 : Boolean(value);
}

/** A str's text, Markup included; undefined where the value is none. */
export function asText(value: Value): string | undefined {
  if (typeof value === 'string') return value;
  return value instanceof Markup ? value.text : undefined;
}

/** A number, True being 1; undefined where the value is none. */
export function asNumber(value: Value): bigint | number | undefined {
  if (typeof value === 'boolean') return value ? 1n : 0n;
  return typeof value === 'bigint' || typeof value === 'number' ? value : undefined;
}

/** str(). */
export function str(value: Value, budget: Budget): string {
  if (value instanceof Undefined) return '';
  return asText(value) ?? repr(value, budget);
}

/** repr(). */
export function repr(value: Value, budget: Budget): string {
  switch (typeof value) {
    case 'string':
      budget.spendText(value.length);
      return quote(value);
    case 'boolean':
      return value ? 'True' : 'False';
    case 'bigint':
      return writeInteger(value);
    case 'number':
      return writeFloat(value);
    default:
      if (value === null) return 'None';
      return Array.isArray(value) ? `[${writeAll(value, budget)}]` : value.write(budget);
  }
}

function writeAll(values: readonly Value[], budget: Budget): string {
  budget.enter();
  const parts = values.map((value) => repr(value, budget));
  budget.leave();
  return joined(parts, budget);
}

function joined(parts: readonly string[], budget: Budget): string {
  const length = parts.reduce((sum, part) => sum + part.length + 2, 0);
  budget.spendText(length);
  budget.checkText(length);
  return parts.join(', ');
}

/** len(); undefined where Python raises TypeError. */
export function len(value: Value): number | undefined {
  const text = asText(value);
  if (text !== undefined) return lengthOf(text);
  if (Array.isArray(value)) return value.length;
  return value instanceof PyObject ? value.length() : undefined;
}

/** iter(); undefined where Python raises TypeError. */
export function tryIterate(value: Value): Iterable<Value> | undefined {
  const text = asText(value);
  if (text !== undefined) return text;
  if (Array.isArray(value)) return value;
  return value instanceof PyObject ? value.iterate() : undefined;
}

export function iterate(value: Value): Iterable<Value> {
  return tryIterate(value) ?? fail(`'${typeName(value)}' object is not iterable`);
}

/** list(). */
export function listOf(value: Value, budget: Budget): Value[] {
  const items: Value[] = [];
  for (const item of iterate(value)) {
    budget.spend();
    items.push(item);
  }
  return items;
}

/** `==` */
export function equals(a: Value, b: Value, budget: Budget): boolean {
  if (a === b) return true;
  const left = asNumber(a);
  const right = asNumber(b);
  // biome-ignore lint/suspicious/noDoubleEquals: compares the exact values of bigint and number
  if (left !== undefined || right !== undefined) return left == right;
  const text = asText(a);
  if (text !== undefined) {
    budget.spendText(text.length);
    const other = asText(b);
    return text === other || (text.length === other?.length && unmark(text) === unmark(other));
  }
  if (Array.isArray(a)) return Array.isArray(b) && allEqual(a, b, budget);
  if (a instanceof Tuple) return b instanceof Tuple && allEqual(a.items, b.items, budget);
  if (a instanceof Dict) return b instanceof Dict && sameEntries(a, b, budget);
  if (a instanceof Range) return b instanceof Range && sameRange(a, b);
  if (a instanceof DictView && b instanceof DictView && a.part === b.part && a.part !== 'values') {
    return a.length() === b.length() && [...a.iterate()].every((each) => includes(b, each, budget));
  }
  return a instanceof Undefined && b instanceof Undefined;
}

function allEqual(a: readonly Value[], b: readonly Value[], budget: Budget): boolean {
  if (a.length !== b.length) return false;
  budget.enter();
  const same = a.every((each, at) => equals(each, b[at]!, budget));
  budget.leave();
  return same;
}

function sameEntries(a: Dict, b: Dict, budget: Budget): boolean {
  if (a.length() !== b.length()) return false;
  budget.enter();
  let same = true;
  for (const [key, value] of a.entries()) {
    const other = b.get(key);
    same &&= other !== undefined && equals(value, other, budget);
  }
  budget.leave();
  return same;
}

function sameRange(a: Range, b: Range): boolean {
  if (a.length() !== b.length()) return false;
  if (a.length() === 0) return true;
  return a.start === b.start && (a.length() === 1 || a.step === b.step);
}

/** `item in container` */
export function includes(container: Value, item: Value, budget: Budget): boolean {
  const text = asText(container);
  if (text !== undefined) {
    budget.spendText(text.length);
    const part = asText(item);
    if (part !== undefined) return unmark(text).includes(unmark(part));
    fail(`'in <string>' requires string as left operand, not ${typeName(item)}`);
  }
  if (container instanceof Dict) return container.has(item);
  for (const each of iterate(container)) {
    budget.spend();
    if (equals(each, item, budget)) return true;
  }
  return false;
}
