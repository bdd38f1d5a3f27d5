/** The functions that Jinja2 gives every template. */
import { bind, callable, wantInteger } from './arguments.ts';
import { fail } from './errors.ts';
import {
  type Arguments,
  Callable,
  Dict,
  iterate,
  Namespace,
  PyObject,
  Range,
  tryIterate,
  type Value,
} from './values.ts';

/** Jinja2's sandbox allows no longer ranges. */
const MAX_RANGE = 100_000;

function range(given: Arguments): Value {
  const [first, second, step] = bind('range', ['/start', ['/stop', null], ['/step', 1n]], given);
  wantInteger(first, 'range');
  wantInteger(step, 'range');
  if (given.positional.length > 1) wantInteger(second, 'range');
  const [start, stop] = given.positional.length > 1 ? [first, second!] : [0n, first];
  if (BigInt(step as bigint) === 0n) fail('range() with a step of zero');
  const values = new Range(BigInt(start as bigint), BigInt(stop as bigint), BigInt(step as bigint));
  if (values.length() > MAX_RANGE) fail(`range() is longer than ${MAX_RANGE}`);
  return values;
}

/** dict(): of another, or of pairs, and of names. */
function dict({ positional, named }: Arguments): Dict {
  if (positional.length > 1) fail('dict takes at most one argument');
  const result = new Dict();
  const [from] = positional;
  if (from instanceof Dict) for (const [key, value] of from.entries()) result.set(key, value);
  else if (from !== undefined) {
    for (const pair of iterate(from)) {
      const [key, value, ...more] = tryIterate(pair) ?? [];
      if (value === undefined || more.length > 0) fail('dict wants pairs');
      result.set(key!, value);
    }
  }
  for (const [key, value] of named) result.set(key, value);
  return result;
}

class Cycler extends PyObject {
  readonly typeName = 'Cycler';
  readonly #items: readonly Value[];
  #at = 0;

  constructor(items: readonly Value[]) {
    super();
    if (items.length === 0) fail('cycler() is given nothing to cycle through');
    this.#items = items;
  }

  override attribute(name: string): Value | undefined {
    if (name === 'current') return this.#items[this.#at]!;
    if (name === 'next') return callable('next', [], () => this.#next());
    if (name !== 'reset') return undefined;
    return callable('reset', [], () => {
      this.#at = 0;
      return null;
    });
  }

  #next(): Value {
    const item = this.#items[this.#at]!;
    this.#at = (this.#at + 1) % this.#items.length;
    return item;
  }
}

function joiner(separator: Value): Callable {
  let isFirst = true;
  return callable('joiner', [], () => {
    const text = isFirst ? '' : separator;
    isFirst = false;
    return text;
  });
}

export const GLOBALS: ReadonlyMap<string, Value> = new Map<string, Value>([
  ['range', new Callable('type', range)],
  ['dict', new Callable('type', dict)],
  ['namespace', new Callable('type', (given) => new Namespace(dict(given)))],
  [
    'cycler',
    new Callable('type', ({ positional, named }) => {
      if (named.size > 0) fail('cycler() takes no named arguments');
      return new Cycler(positional);
    }),
  ],
  ['joiner', callable('joiner', [['sep', ', ']], (separator) => joiner(separator))],
  // Not the same twice.
  ['lipsum', new Callable('function', () => fail('lipsum() is not supported'))],
]);
