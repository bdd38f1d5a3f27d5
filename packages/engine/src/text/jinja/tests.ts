/** The tests of Jinja2: what may follow `is`. */
import { unmark } from '../marks.ts';
import { bind, type Signature } from './arguments.ts';
import type { Runtime } from './filters.ts';
import { isLower, isUpper } from './methods.ts';
import { arithmetic, type ComparisonOperator, compares } from './operators.ts';
import {
  type Arguments,
  asNumber,
  asText,
  Callable,
  Dict,
  equals,
  Markup,
  Range,
  str,
  Tuple,
  tryIterate,
  Undefined,
  type Value,
} from './values.ts';

export type Test = (runtime: Runtime, value: Value, args: Arguments) => boolean;

function test(
  name: string,
  signature: Signature,
  holds: (runtime: Runtime, value: Value, ...values: Value[]) => boolean,
): readonly [string, Test] {
  return [
    name,
    (runtime, value, args) => holds(runtime, value, ...bind(`test "${name}"`, signature, args)),
  ];
}

const is = (name: string, holds: (value: Value) => boolean) =>
  test(name, [], (_, value) => holds(value));

const comparing = (operator: ComparisonOperator, ...names: readonly string[]) =>
  names.map((name) =>
    test(name, ['/other'], ({ budget }, value, other) => compares(operator, value, other, budget)),
  );

function divisible(runtime: Runtime, value: Value, by: Value): boolean {
  return equals(arithmetic('%', value, by, runtime.budget), 0n, runtime.budget);
}

function isSequence(value: Value): boolean {
  return (
    asText(value) !== undefined ||
    Array.isArray(value) ||
    value instanceof Tuple ||
    value instanceof Dict ||
    value instanceof Range ||
    value instanceof Undefined
  );
}

/** Identity. What JavaScript cannot tell apart is the same, as in Python small integers are. */
function isSame(a: Value, b: Value): boolean {
  return a === b || (a instanceof Undefined && b instanceof Undefined && a.reason === b.reason);
}

export const TESTS: ReadonlyMap<string, Test> = new Map<string, Test>([
  is('boolean', (value) => typeof value === 'boolean'),
  is('callable', (value) => value instanceof Callable || value instanceof Undefined),
  is('defined', (value) => !(value instanceof Undefined)),
  test('divisibleby', ['num'], (runtime, value, by) => divisible(runtime, value, by)),
  is('escaped', (value) => value instanceof Markup),
  test('even', [], (runtime, value) => divisible(runtime, value, 2n)),
  is('false', (value) => value === false),
  test('filter', [], (runtime, value) => runtime.hasFilter(asText(value) ?? '')),
  is('float', (value) => typeof value === 'number'),
  test('in', ['seq'], ({ budget }, value, within) => compares('in', value, within, budget)),
  is('integer', (value) => typeof value === 'bigint'),
  is('iterable', (value) => tryIterate(value) !== undefined),
  test('lower', [], ({ budget }, value) => isLower(unmark(str(value, budget)))),
  is('mapping', (value) => value instanceof Dict),
  is('none', (value) => value === null),
  is('number', (value) => asNumber(value) !== undefined),
  test('odd', [], ({ budget }, value) => equals(arithmetic('%', value, 2n, budget), 1n, budget)),
  test('sameas', ['other'], (_, value, other) => isSame(value, other)),
  is('sequence', isSequence),
  is('string', (value) => asText(value) !== undefined),
  test('test', [], (_, value) => TESTS.has(asText(value) ?? '')),
  is('true', (value) => value === true),
  is('undefined', (value) => value instanceof Undefined),
  test('upper', [], ({ budget }, value) => isUpper(unmark(str(value, budget)))),
  ...comparing('==', '==', 'eq', 'equalto'),
  ...comparing('!=', '!=', 'ne'),
  ...comparing('<', '<', 'lt', 'lessthan'),
  ...comparing('<=', '<=', 'le'),
  ...comparing('>', '>', 'gt', 'greaterthan'),
  ...comparing('>=', '>=', 'ge'),
]);
