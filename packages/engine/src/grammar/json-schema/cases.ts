import { Dict } from '../../text/jinja/values.ts';
import type { Expression } from '../expression.ts';
import { compareDecimals, type Decimal, leastCommonMultiple } from './decimal.ts';
import type { Json, Schema } from './document.ts';

export const JSON_TYPES = ['null', 'boolean', 'number', 'string', 'array', 'object'] as const;
export type JsonType = (typeof JSON_TYPES)[number];

/** A schema that a value must fulfil, or must not. */
export interface Demand {
  readonly schema: Schema;
  readonly holds: boolean;
}

export function not({ schema, holds }: Demand): Demand {
  return { schema, holds: !holds };
}

/** What a value must meet all at once. Goals of the same demands are one object. */
export interface Goal {
  readonly demands: readonly Demand[];
  readonly id: number;
}

/** Of a place of which nothing is demanded. */
export const ANYTHING: Demand = { schema: { value: true, pointer: '', id: -1 }, holds: true };

export function isTrivial({ schema, holds }: Demand): boolean {
  return holds ? schema.value === true || isEmptyObject(schema.value) : schema.value === false;
}

function isEmptyObject(value: Dict | boolean): boolean {
  return typeof value !== 'boolean' && value.length() === 0;
}

export interface Bound {
  readonly value: Decimal;
  readonly isExclusive: boolean;
}

/** What the keywords of one schema say of an object's properties together. */
export interface Shape {
  readonly properties: ReadonlyMap<string, Demand>;
  readonly patterns: readonly { readonly keys: Expression; readonly demand: Demand }[];
  /** Of properties that are neither; undefined: anything. */
  readonly rest: Demand | undefined;
  /** Shapes of lower rank name their properties first. */
  readonly rank: readonly number[];
}

/** What the keywords of one schema say of an array's items together. */
export interface Row {
  readonly prefix: readonly Demand[];
  /** Of items behind the prefix; undefined: anything. */
  readonly rest: Demand | undefined;
}

/** At least `min` and at most `max` items meet the demand. */
export interface Containing {
  readonly demand: Demand;
  readonly min: number;
  readonly max: number;
  readonly pointer: string;
}

/** There must be a property with one of the names, and with a value that meets the demand. */
export interface Stray {
  readonly hasName: (name: string) => boolean;
  /** The language of the names, decoded, as far as no schema names them. */
  readonly keys: Expression;
  readonly demand: Demand | undefined;
  readonly pointer: string;
}

/**
 * What a value must be like, with all choices made: demands without alternatives, by type of value.
 * A schema is the union of its cases.
 */
export class Case {
  types: ReadonlySet<JsonType> = new Set(JSON_TYPES);
  /** It is one of these; undefined: any. */
  values: readonly Json[] | undefined;
  /** It is none of these. */
  excluded: readonly Json[] = [];

  /** Of numbers: only integers, or none. */
  isInteger: boolean | undefined;
  minimum: Bound | undefined;
  maximum: Bound | undefined;
  multipleOf: Decimal | undefined;
  notMultipleOf: readonly Decimal[] = [];

  minLength = 0;
  maxLength = Number.POSITIVE_INFINITY;
  /** Languages of decoded strings: `holds` false: it is in none of them. */
  patterns: readonly { readonly language: Expression; readonly holds: boolean }[] = [];

  minItems = 0;
  maxItems = Number.POSITIVE_INFINITY;
  rows: readonly Row[] = [];
  containing: readonly Containing[] = [];
  /** Where it is said that all items differ. */
  uniqueItems: string | undefined;

  minProperties = 0;
  maxProperties = Number.POSITIVE_INFINITY;
  shapes: readonly Shape[] = [];
  required: ReadonlySet<string> = new Set();
  absent: ReadonlySet<string> = new Set();
  /** Of the names of properties. */
  names: readonly Demand[] = [];
  strays: readonly Stray[] = [];
  /** Those that have a name that no schema names. */
  unnamed: readonly Stray[] = [];

  clone(): Case {
    return Object.assign(new Case(), this);
  }

  get isDead(): boolean {
    return this.types.size === 0 || this.values?.length === 0;
  }

  restrict(types: Iterable<JsonType>): void {
    const allowed = new Set(types);
    this.types = new Set([...this.types].filter((type) => allowed.has(type)));
  }

  /** Without values of `type`. */
  drop(type: JsonType): void {
    this.restrict(JSON_TYPES.filter((other) => other !== type));
  }

  /** All others stay possible: bounds are of numbers only. */
  atLeast(bound: Bound): void {
    if (this.minimum === undefined || tighter(bound, this.minimum, 1)) this.minimum = bound;
  }

  atMost(bound: Bound): void {
    if (this.maximum === undefined || tighter(bound, this.maximum, -1)) this.maximum = bound;
  }

  onlyIntegers(isInteger: boolean): void {
    if (this.isInteger === !isInteger) this.drop('number');
    this.isInteger = isInteger;
  }

  onlyMultiples(of: Decimal): void {
    this.multipleOf = this.multipleOf === undefined ? of : leastCommonMultiple(this.multipleOf, of);
  }

  lengths(min: number, max: number): void {
    this.minLength = Math.max(this.minLength, min);
    this.maxLength = Math.min(this.maxLength, max);
    if (this.minLength > this.maxLength) this.drop('string');
  }

  items(min: number, max: number): void {
    this.minItems = Math.max(this.minItems, min);
    this.maxItems = Math.min(this.maxItems, max);
    if (this.minItems > this.maxItems) this.drop('array');
  }

  properties(min: number, max: number): void {
    this.minProperties = Math.max(this.minProperties, min);
    this.maxProperties = Math.min(this.maxProperties, max);
    if (this.minProperties > this.maxProperties) this.drop('object');
  }

  require(names: Iterable<string>): void {
    this.required = new Set([...this.required, ...names]);
    this.#compareNames();
  }

  forbid(name: string): void {
    this.absent = new Set([...this.absent, name]);
    this.#compareNames();
  }

  #compareNames(): void {
    if ([...this.absent].some((name) => this.required.has(name))) this.drop('object');
  }

  match(language: Expression, holds: boolean): void {
    const known = this.patterns.find((pattern) => pattern.language === language);
    if (known === undefined) this.patterns = [...this.patterns, { language, holds }];
    else if (known.holds !== holds) this.drop('string');
  }

  oneOf(values: readonly Json[]): void {
    const before = this.values;
    this.values =
      before === undefined
        ? values
        : before.filter((value) => values.some((other) => isEqual(value, other)));
    this.restrict(this.values.map(typeOf));
  }
}

/** Whether `bound` leaves fewer numbers than `other`; `sign` 1 for minima, -1 for maxima. */
function tighter(bound: Bound, other: Bound, sign: number): boolean {
  const order = compareDecimals(bound.value, other.value) * sign;
  return order > 0 || (order === 0 && bound.isExclusive);
}

export function typeOf(value: Json): JsonType {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  switch (typeof value) {
    case 'boolean':
      return 'boolean';
    case 'string':
      return 'string';
    case 'object':
      return 'object';
    default:
      return 'number';
  }
}

/** Whether both are the same JSON value: 1 is 1.0, and the order of keys says nothing. */
export function isEqual(a: Json, b: Json): boolean {
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, at) => isEqual(item, b[at] ?? null));
  }
  if (a instanceof Dict && b instanceof Dict) {
    if (a.length() !== b.length()) return false;
    return [...a.entries()].every(([key, value]) => {
      const other = b.get(key);
      return other !== undefined && isEqual(value, other);
    });
  }
  if (typeOf(a) === 'number' && typeOf(b) === 'number') {
    // Not Number(): a bigint and a double are compared exactly.
    // biome-ignore lint/suspicious/noDoubleEquals: === tells the types of equal numbers apart
    return a == b;
  }
  return a === b;
}
