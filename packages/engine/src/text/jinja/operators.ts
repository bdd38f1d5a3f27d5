/** Python's operators, and how a value is indexed and sliced. */
import { unmark } from '../marks.ts';
import type { Budget } from './budget.ts';
import { fail } from './errors.ts';
import { formatPercent } from './format.ts';
import {
  divide,
  floatFloorDivide,
  floatModulo,
  floatPower,
  floorDivide,
  modulo,
  power,
} from './numbers.ts';
import { characterAt, compareText, escapeHtml, lengthOf, substring } from './text.ts';
import {
  asNumber,
  asText,
  Dict,
  equals,
  includes,
  len,
  Markup,
  Range,
  str,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

export type ArithmeticOperator = '+' | '-' | '*' | '/' | '//' | '%' | '**';
export type ComparisonOperator = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in' | 'not in';

export function arithmetic(
  operator: ArithmeticOperator,
  left: Value,
  right: Value,
  budget: Budget,
): Value {
  const a = asNumber(left);
  const b = asNumber(right);
  if (a !== undefined && b !== undefined) {
    if (typeof a === 'bigint' && typeof b === 'bigint') return integers(operator, a, b, budget);
    return floats(operator, Number(a), Number(b));
  }
  refuseUndefined(left);
  const text = asText(left);
  if (operator === '%' && text !== undefined) return formatPercent(text, right, budget);
  refuseUndefined(right);
  const result =
    operator === '+'
      ? joined(left, right, budget)
      : operator === '*' && repeated(left, right, budget);
  if (result) return result.value;
  return fail(
    `unsupported operand types for ${operator}: '${typeName(left)}' and '${typeName(right)}'`,
  );
}

export function refuseUndefined(value: Value): void {
  if (value instanceof Undefined) fail(value.reason);
}

function integers(
  operator: ArithmeticOperator,
  a: bigint,
  b: bigint,
  budget: Budget,
): bigint | number {
  switch (operator) {
    case '+':
      return bounded(a + b, budget);
    case '-':
      return bounded(a - b, budget);
    case '*':
      return bounded(a * b, budget);
    case '/':
      return divide(a, b);
    case '//':
      return floorDivide(a, b);
    case '%':
      return modulo(a, b);
    case '**':
      return power(a, b, budget);
  }
}

/** Small integers are not measured. */
function bounded(value: bigint, budget: Budget): bigint {
  if (BigInt.asIntN(64, value) !== value) budget.checkInteger(value.toString(16).length * 4);
  return value;
}

function floats(operator: ArithmeticOperator, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return b === 0 ? fail('float division by zero') : a / b;
    case '//':
      return floatFloorDivide(a, b);
    case '%':
      return floatModulo(a, b);
    case '**':
      return floatPower(a, b);
  }
}

interface Result {
  readonly value: Value;
}

function joined(left: Value, right: Value, budget: Budget): Result | undefined {
  const a = asText(left);
  const b = asText(right);
  if (a !== undefined && b !== undefined) {
    budget.checkText(a.length + b.length);
    if (!(left instanceof Markup || right instanceof Markup)) return { value: a + b };
    const safe = (value: Value, text: string) =>
      value instanceof Markup ? text : escapeHtml(text);
    return { value: new Markup(safe(left, a) + safe(right, b)) };
  }
  if (Array.isArray(left) && Array.isArray(right)) {
    budget.spend(left.length + right.length);
    return { value: [...left, ...right] };
  }
  if (left instanceof Tuple && right instanceof Tuple) {
    budget.spend(left.items.length + right.items.length);
    return { value: new Tuple([...left.items, ...right.items]) };
  }
  return undefined;
}

function repeated(left: Value, right: Value, budget: Budget): Result | undefined {
  const leftTimes = asNumber(left);
  const [sequence, by] = leftTimes === undefined ? [left, asNumber(right)] : [right, leftTimes];
  if (typeof by !== 'bigint') return undefined;
  const times = by < 0n ? 0 : Number(by);
  if (typeof sequence === 'string' || sequence instanceof Markup) {
    const text = asText(sequence)!;
    budget.checkText(text.length * times);
    budget.spendText(text.length * times);
    // Python repeats nothing as often as one likes; JavaScript does not.
    const value = text === '' ? '' : text.repeat(times);
    return { value: sequence instanceof Markup ? new Markup(value) : value };
  }
  const items = sequence instanceof Tuple ? sequence.items : sequence;
  if (!Array.isArray(items)) return undefined;
  budget.spend(items.length * times);
  const repeats = items.length === 0 ? 0 : times;
  const value = Array.from({ length: repeats }, () => items as Value[]).flat() as Value[];
  return { value: sequence instanceof Tuple ? new Tuple(value) : value };
}

export function negate(value: Value): Value {
  refuseUndefined(value);
  const number = asNumber(value);
  return number === undefined ? fail(`bad operand type for -: '${typeName(value)}'`) : -number;
}

export function plus(value: Value): Value {
  refuseUndefined(value);
  return asNumber(value) ?? fail(`bad operand type for +: '${typeName(value)}'`);
}

export function compares(
  operator: ComparisonOperator,
  left: Value,
  right: Value,
  budget: Budget,
): boolean {
  budget.spend();
  switch (operator) {
    case '==':
      return equals(left, right, budget);
    case '!=':
      return !equals(left, right, budget);
    case 'in':
      return includes(right, left, budget);
    case 'not in':
      return !includes(right, left, budget);
    default: {
      const order = compare(left, right, budget);
      if (operator === '<') return order < 0;
      if (operator === '>') return order > 0;
      return operator === '<=' ? order <= 0 : order >= 0;
    }
  }
}

/** Below, at or above zero; NaN where a nan is involved. */
export function compare(a: Value, b: Value, budget: Budget): number {
  const left = asNumber(a);
  const right = asNumber(b);
  if (left !== undefined && right !== undefined) {
    if (left < right) return -1;
    if (left > right) return 1;
    return Number.isNaN(left) || Number.isNaN(right) ? Number.NaN : 0;
  }
  refuseUndefined(a);
  refuseUndefined(b);
  const text = asText(a);
  const other = asText(b);
  if (text !== undefined && other !== undefined) {
    budget.spendText(Math.min(text.length, other.length));
    return compareText(unmark(text), unmark(other));
  }
  if (Array.isArray(a) && Array.isArray(b)) return compareAll(a, b, budget);
  if (a instanceof Tuple && b instanceof Tuple) return compareAll(a.items, b.items, budget);
  return fail(`no order between '${typeName(a)}' and '${typeName(b)}'`);
}

function compareAll(a: readonly Value[], b: readonly Value[], budget: Budget): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    budget.enter();
    const same = equals(a[at]!, b[at]!, budget);
    const order = same ? 0 : compare(a[at]!, b[at]!, budget);
    budget.leave();
    if (!same) return order;
  }
  return a.length - b.length;
}

/** An index as Python takes it: an int or a bool; undefined for anything else. */
export function asIndex(value: Value): number | undefined {
  const number = asNumber(value);
  return typeof number === 'bigint' ? Number(number) : undefined;
}

/** `value[key]`; undefined where Python raises TypeError or LookupError. */
export function itemOf(value: Value, key: Value, budget: Budget): Value | undefined {
  if (value instanceof Dict) {
    budget.spendText(asText(key)?.length ?? 0);
    return Array.isArray(key) || key instanceof Dict ? undefined : value.get(key);
  }
  const index = asIndex(key);
  if (index === undefined) return undefined;
  const text = asText(value);
  if (text !== undefined) {
    budget.spendText(text.length);
    return characterAt(text, index);
  }
  if (Array.isArray(value)) return value.at(index);
  if (value instanceof Tuple) return value.items.at(index);
  if (!(value instanceof Range)) return undefined;
  const at = index < 0 ? index + value.length() : index;
  return at >= 0 && at < value.length() ? value.at(at) : undefined;
}

export interface Slice {
  readonly start: Value;
  readonly stop: Value;
  readonly step: Value;
}

/** `value[start:stop:step]`; undefined where Python raises TypeError. */
export function sliceOf(value: Value, slice: Slice, budget: Budget): Value | undefined {
  const length = value instanceof Dict ? undefined : len(value);
  const isSequence =
    asText(value) !== undefined ||
    Array.isArray(value) ||
    value instanceof Tuple ||
    value instanceof Range;
  if (length === undefined || !isSequence) return undefined;
  const step = bound(slice.step) ?? 1;
  if (step === 0) fail('slice step cannot be zero');
  const [first, last] = step > 0 ? [0, length] : [-1, length - 1];
  const clamp = (given: Value, otherwise: number) => {
    const at = bound(given);
    if (at === undefined) return otherwise;
    return Math.min(Math.max(at < 0 ? at + length : at, first), last);
  };
  const start = clamp(slice.start, step > 0 ? 0 : length - 1);
  const stop = clamp(slice.stop, step > 0 ? length : -1);
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (value instanceof Range) {
    const by = value.step * BigInt(step);
    return new Range(value.at(start), value.at(stop), by);
  }
  const text = asText(value);
  if (text !== undefined) {
    budget.spendText(text.length);
    if (step === 1) return substring(text, start, start + count);
    const all = lengthOf(text) === text.length ? text : Array.from(text);
    return picked(all, start, step, count, budget).join('');
  }
  if (value instanceof Tuple) return new Tuple(picked(value.items, start, step, count, budget));
  return picked(value as Value[], start, step, count, budget);
}

function picked<T>(
  from: ArrayLike<T>,
  start: number,
  step: number,
  count: number,
  budget: Budget,
): T[] {
  budget.spend(count);
  return Array.from({ length: count }, (_, at) => from[start + at * step]!);
}

function bound(value: Value): number | undefined {
  if (value === null) return undefined;
  return asIndex(value) ?? fail('slice indices must be integers or None');
}

/** `~`: the texts of all, one after another. */
export function concatenate(values: readonly Value[], budget: Budget): string {
  let text = '';
  for (const value of values) {
    text += str(value, budget);
    budget.checkText(text.length);
  }
  return text;
}
