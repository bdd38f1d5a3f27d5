import type { Budget } from './budget.ts';
import { fail } from './errors.ts';
import {
  type Arguments,
  Callable,
  equals,
  iterate,
  len,
  Tuple,
  Undefined,
  type Value,
} from './values.ts';

/**
 * The variable `loop`. It looks one item ahead, and counts them, only when it is asked: what goes
 * through a generator may change what comes next.
 */
export class Loop extends Callable {
  readonly #budget: Budget;
  readonly #iterable: Value;
  readonly #depth: number;
  #iterator: Iterator<Value>;
  #index = -1;
  #current: Value | undefined;
  #previous: Value | undefined;
  #next: Value | undefined;
  #length: number | undefined;
  #changed: Value | undefined;

  /** `recurse` is what calling it does; `depth` is 0 for the outermost of a recursive loop. */
  constructor(iterable: Value, depth: number, recurse: (args: Arguments) => Value, budget: Budget) {
    super('LoopContext', recurse);
    this.#budget = budget;
    this.#iterable = iterable;
    this.#depth = depth;
    this.#iterator = iterate(iterable)[Symbol.iterator]();
  }

  /** The next item, or undefined after the last. */
  advance(): Value | undefined {
    const next = this.#peek();
    this.#next = undefined;
    if (next === undefined) return undefined;
    this.#index += 1;
    this.#previous = this.#current;
    this.#current = next;
    return next;
  }

  #peek(): Value | undefined {
    if (this.#next === undefined) {
      const { done, value } = this.#iterator.next();
      this.#next = done ? undefined : value;
    }
    return this.#next;
  }

  override length(): number {
    this.#length ??= len(this.#iterable) ?? this.#count();
    return this.#length;
  }

  #count(): number {
    const rest: Value[] = [];
    for (let next = this.#iterator.next(); !next.done; next = this.#iterator.next()) {
      this.#budget.spend();
      rest.push(next.value);
    }
    this.#iterator = rest.values();
    return this.#index + 1 + (this.#next === undefined ? 0 : 1) + rest.length;
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case 'index':
        return BigInt(this.#index + 1);
      case 'index0':
        return BigInt(this.#index);
      case 'revindex':
        return BigInt(this.length() - this.#index);
      case 'revindex0':
        return BigInt(this.length() - this.#index - 1);
      case 'first':
        return this.#index === 0;
      case 'last':
        return this.#peek() === undefined;
      case 'length':
        return BigInt(this.length());
      case 'depth':
        return BigInt(this.#depth + 1);
      case 'depth0':
        return BigInt(this.#depth);
      case 'previtem':
        return orUndefined(this.#previous, 'there is no previous item');
      case 'nextitem':
        return orUndefined(this.#peek(), 'there is no next item');
      case 'cycle':
        return new Callable('method', ({ positional }) => this.#cycle(positional));
      case 'changed':
        return new Callable('method', ({ positional }) => this.#hasChanged(new Tuple(positional)));
      default:
        return undefined;
    }
  }

  #cycle(values: readonly Value[]): Value {
    if (values.length === 0) fail('loop.cycle is given nothing to cycle through');
    return values[this.#index % values.length]!;
  }

  #hasChanged(value: Tuple): boolean {
    const before = this.#changed;
    if (before !== undefined && equals(before, value, this.#budget)) return false;
    this.#changed = value;
    return true;
  }

  override write(): string {
    return `<LoopContext ${this.#index + 1}/${this.length()}>`;
  }
}

function orUndefined(value: Value | undefined, reason: string): Value {
  return value === undefined ? new Undefined(reason) : value;
}
