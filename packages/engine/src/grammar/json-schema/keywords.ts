import { Dict } from '../../text/jinja/values.ts';
import { type Bound, type Demand, JSON_TYPES, type JsonType } from './cases.ts';
import { type Decimal, decimalOf } from './decimal.ts';
import {
  entriesOf,
  type Json,
  refuse,
  type Schema,
  type SchemaDocument,
  within,
} from './document.ts';

/** What would change what is admitted, and is not understood. */
const UNSUPPORTED = new Set([
  'unevaluatedProperties',
  'unevaluatedItems',
  '$dynamicRef',
  '$recursiveRef',
  'extends',
  'disallow',
  'divisibleBy',
]);

/** What has other schemas say something of the same object: they evaluate properties, too. */
const IN_PLACE = [
  ...['$ref', 'allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else'],
  ...['dependentSchemas', 'dependencies'],
];

/** Reads the keywords of one schema strictly: each method throws GrammarError 'syntax'. */
export class KeywordReader {
  readonly #document: SchemaDocument;
  readonly #schema: Schema;
  readonly #keywords: Dict;

  constructor(document: SchemaDocument, schema: Schema, keywords: Dict) {
    this.#document = document;
    this.#schema = schema;
    this.#keywords = keywords;
  }

  /** The pointer to a keyword. */
  at(keyword: string): string {
    return within(this.#schema.pointer, keyword);
  }

  has(keyword: string): boolean {
    return this.#keywords.has(keyword);
  }

  types(): { readonly types: readonly JsonType[]; readonly isInteger: boolean } {
    const value = this.#keywords.get('type');
    const names = Array.isArray(value) ? value : [value];
    const types = names.map((name) => {
      if (name === 'integer') return 'number';
      const type = JSON_TYPES.find((known) => known === name);
      return type ?? this.#wants('type', `one of integer, ${JSON_TYPES.join(', ')}, or a list`);
    });
    return { types, isInteger: names.includes('integer') && !names.includes('number') };
  }

  values(keyword: string): readonly Json[] {
    const value = this.#keywords.get(keyword);
    return Array.isArray(value) ? value : this.#wants(keyword, 'a list');
  }

  count(keyword: string): number {
    const value = this.#keywords.get(keyword);
    const count = typeof value === 'bigint' || typeof value === 'number' ? Number(value) : -1;
    return Number.isInteger(count) && count >= 0 ? count : this.#wants(keyword, 'a count');
  }

  text(keyword: string): string {
    const value = this.#keywords.get(keyword);
    return typeof value === 'string' ? value : this.#wants(keyword, 'a string');
  }

  flag(keyword: string): boolean {
    const value = this.#keywords.get(keyword);
    return typeof value === 'boolean' ? value : this.#wants(keyword, 'true or false');
  }

  names(keyword: string): readonly string[] {
    return this.#namesIn(this.#keywords.get(keyword), keyword);
  }

  #namesIn(value: Json | undefined, keyword: string): readonly string[] {
    const isList = Array.isArray(value) && value.every((name) => typeof name === 'string');
    return isList ? value : this.#wants(keyword, 'a list of names');
  }

  schema(keyword: string): Demand {
    const schema = this.#document.schemaAt(this.#keywords.get(keyword), this.at(keyword));
    return { schema, holds: true };
  }

  reference(keyword: string): Demand {
    const value = this.#keywords.get(keyword) ?? null;
    return { schema: this.#document.resolve(value, this.#schema, keyword), holds: true };
  }

  schemas(keyword: string): readonly Demand[] {
    const value = this.#keywords.get(keyword);
    if (!Array.isArray(value) || value.length === 0)
      return this.#wants(keyword, 'a list of schemas');
    return value.map((item, at) => this.#demand(item, keyword, at));
  }

  /** Of an object of schemas; none where the keyword is missing. */
  schemasByKey(keyword: string): readonly (readonly [string, Demand])[] {
    const value = this.#keywords.get(keyword);
    if (value === undefined) return [];
    if (!(value instanceof Dict)) return this.#wants(keyword, 'an object of schemas');
    return [...entriesOf(value)].map(([key, item]) => [key, this.#demand(item, keyword, key)]);
  }

  #demand(value: Json, ...keys: readonly (string | number)[]): Demand {
    const pointer = within(this.#schema.pointer, ...keys);
    return { schema: this.#document.schemaAt(value, pointer), holds: true };
  }

  /** Undefined where the keyword is draft 4's, which only says how another bound is meant. */
  bound(
    keyword: 'minimum' | 'maximum' | 'exclusiveMinimum' | 'exclusiveMaximum',
  ): Bound | undefined {
    const isOwn = keyword.startsWith('exclusive');
    if (isOwn && typeof this.#keywords.get(keyword) === 'boolean') return undefined;
    const modifier = keyword === 'minimum' ? 'exclusiveMinimum' : 'exclusiveMaximum';
    const isExclusive = isOwn || this.#keywords.get(modifier) === true;
    return { value: this.#decimal(keyword), isExclusive };
  }

  divisor(keyword: string): Decimal {
    const value = this.#decimal(keyword);
    return value.digits > 0n ? value : this.#wants(keyword, 'a number above 0');
  }

  #decimal(keyword: string): Decimal {
    const value = this.#keywords.get(keyword);
    const isNumber = typeof value === 'bigint' || typeof value === 'number';
    return (
      (isNumber ? decimalOf(value) : undefined) ?? this.#wants(keyword, 'a number of bounded size')
    );
  }

  /** Of prefixItems and items, or of draft 7's items and additionalItems. */
  row(): { readonly prefix: readonly Demand[]; readonly rest: Demand | undefined } {
    const items = this.#keywords.get('items');
    const optional = (keyword: string) => (this.has(keyword) ? this.schema(keyword) : undefined);
    if (Array.isArray(items)) {
      const prefix = items.map((item, at) => this.#demand(item, 'items', at));
      return { prefix, rest: optional('additionalItems') };
    }
    const prefix = this.has('prefixItems') ? this.schemas('prefixItems') : [];
    return { prefix, rest: optional('items') };
  }

  containing(): { readonly min: number; readonly max: number } {
    const min = this.has('minContains') ? this.count('minContains') : 1;
    const max = this.has('maxContains') ? this.count('maxContains') : Number.POSITIVE_INFINITY;
    return { min, max };
  }

  dependencies(keyword: string): readonly Dependency[] {
    const value = this.#keywords.get(keyword);
    if (!(value instanceof Dict)) return this.#wants(keyword, 'an object');
    return [...entriesOf(value)].map(([name, wanted]) => {
      const isNames = keyword !== 'dependentSchemas' && Array.isArray(wanted);
      if (!isNames) return { name, names: [], demands: [this.#demand(wanted, keyword, name)] };
      return { name, names: this.#namesIn(wanted, keyword), demands: [] };
    });
  }

  /** Whether all properties that are evaluated are so by this schema's own keywords. */
  get isAloneWithProperties(): boolean {
    return !IN_PLACE.some((keyword) => this.has(keyword));
  }

  /** Throws GrammarError 'unsupported' for keywords that would change what is admitted. */
  refuseUnsupported(keyword: string): void {
    if (!UNSUPPORTED.has(keyword)) return;
    refuse('unsupported', this.at(keyword), `uses ${keyword}, which is not supported`);
  }

  #wants(keyword: string, what: string): never {
    return refuse('syntax', this.at(keyword), `needs ${what} as ${keyword}`);
  }
}

/** What must hold of an object that has the property `name`. */
interface Dependency {
  readonly name: string;
  readonly names: readonly string[];
  readonly demands: readonly Demand[];
}
