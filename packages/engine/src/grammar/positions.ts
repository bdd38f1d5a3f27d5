import type { Spending } from './budget.ts';
import type { ByteRange } from './utf8.ts';

/** What can be done at a position of a grammar. */
export const OP = {
  /** Takes a byte of set `argument` and goes to `next`. */
  BYTE: 0,
  /** Goes to each of `targets` without a byte. None: no text ends here. */
  SPLIT: 1,
  /** Follows unit `argument`, and then goes to `next`. */
  CALL: 2,
  /** The unit ends, where its repeat was counted to `argument` at least. */
  ACCEPT: 3,
  /** Goes to `next`, and the unit's repeat counts one more. */
  TICK: 4,
} as const;

/** What is called and not written out: a rule, or the body of a counted repeat. */
export interface Unit {
  readonly start: number;
  /** Of a counted repeat: how often at most. */
  readonly maximum: number | undefined;
}

const NO_UNIT = -1;

/**
 * A nondeterministic automaton over bytes, built from its end: each position knows what comes after
 * it, and equal positions are one, so that what ends alike is shared.
 */
export class Positions {
  readonly op: number[] = [];
  readonly argument: number[] = [];
  readonly next: number[] = [];
  readonly targets: (readonly number[])[] = [];
  /** The unit of each position, which is that of all that comes after it; NO_UNIT: the root. */
  readonly unit: number[] = [];
  /** That of the positions that are added next. */
  currentUnit = NO_UNIT;
  /** Of each set, its ranges of bytes. */
  readonly sets: (readonly ByteRange[])[] = [];
  readonly #spending: Spending;
  readonly #known = new Map<string, number>();
  readonly #setIds = new Map<string, number>();

  constructor(spending: Spending) {
    this.#spending = spending;
  }

  get count(): number {
    return this.op.length;
  }

  /** Ranges in order that do not touch. */
  byte(ranges: readonly ByteRange[], next: number): number {
    const key = ranges.join(' ');
    let set = this.#setIds.get(key);
    if (set === undefined) {
      set = this.sets.length;
      this.sets.push(ranges);
      this.#setIds.set(key, set);
    }
    return this.#shared(OP.BYTE, set, next, []);
  }

  split(targets: readonly number[]): number {
    const distinct = [...new Set(targets)].sort((a, b) => a - b);
    const [only] = distinct;
    if (only !== undefined && distinct.length === 1) return only;
    return this.#shared(OP.SPLIT, 0, 0, distinct);
  }

  call(unit: number, next: number): number {
    return this.#shared(OP.CALL, unit, next, []);
  }

  /** The end of a unit: its own, never shared with another's. */
  accept(minimum: number): number {
    return this.#add(OP.ACCEPT, minimum, 0, []);
  }

  tick(next: number): number {
    return this.#add(OP.TICK, 0, next, []);
  }

  /** A split whose targets are given later, so that they can lead back to it. */
  reserve(): number {
    return this.#add(OP.SPLIT, 0, 0, []);
  }

  complete(reserved: number, targets: readonly number[]): void {
    this.targets[reserved] = targets;
  }

  /** Whether no text can end from here. */
  isDead(position: number): boolean {
    return this.op[position] === OP.SPLIT && this.targets[position]?.length === 0;
  }

  #shared(op: number, argument: number, next: number, targets: readonly number[]): number {
    const key = op === OP.SPLIT ? targets.join() : `${op} ${argument} ${next}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const position = this.#add(op, argument, next, targets);
    this.#known.set(key, position);
    return position;
  }

  #add(op: number, argument: number, next: number, targets: readonly number[]): number {
    this.#spending.hold('positions', this.count);
    this.#spending.spend(1 + targets.length);
    this.targets.push(targets);
    this.argument.push(argument);
    this.next.push(next);
    this.unit.push(this.currentUnit);
    return this.op.push(op) - 1;
  }
}
