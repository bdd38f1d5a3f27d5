import { Dict } from '../../text/jinja/values.ts';
import type { Expression } from '../expression.ts';
import { choice, difference, text } from './build.ts';
import {
  ANYTHING,
  type Demand,
  type Goal,
  isTrivial,
  JSON_TYPES,
  type JsonType,
  not,
  type Shape,
  type Stray,
  typeOf,
} from './cases.ts';
import {
  entriesOf,
  type Json,
  refuse,
  type Schema,
  type SchemaDocument,
  within,
} from './document.ts';
import type { KeywordReader } from './keywords.ts';
import { demanding, errorOf, type Path, ranked, type Way, waysOfConditions } from './paths.ts';
import { ANY_NAME } from './strings.ts';

/** What ways to fail a schema need to know of what is around it. */
export interface Surroundings {
  readonly document: SchemaDocument;
  /** Adds what the keywords of a schema assert. */
  assert(schema: Schema, keywords: Dict, rank: readonly number[], path: Path): void;
  pattern(pattern: string, pointer: string): Expression;
  format(name: string, pointer: string): Expression | undefined;
  shape(read: KeywordReader, rank: readonly number[]): Shape;
  /** What a shape demands of a property by its name. */
  applying(shape: Shape, name: string): readonly Demand[];
  goal(demands: readonly Demand[]): Goal;
  admits(goal: Goal, value: Json): boolean;
  namesThatMeet(goal: Goal): Expression;
  hasText(language: Expression, text: string): boolean;
}

/** Ways in which a value can fail a schema: one keyword of it is enough. */
export function waysToFail(
  around: Surroundings,
  schema: Schema,
  keywords: Dict,
  read: KeywordReader,
  rank: readonly number[],
): readonly Way[] {
  return new Opposite(around, schema, read, rank).ways(keywords);
}

/** Keywords that are failed first, and hold in the ways that follow. */
const FIRST_TO_HOLD = ['required', 'enum', 'const', 'type'];

interface Entry {
  readonly keyword: string;
  readonly value: Json;
  readonly rank: readonly number[];
}

/** The opposite of one schema. */
class Opposite {
  readonly #around: Surroundings;
  readonly #read: KeywordReader;
  readonly #schema: Schema;
  readonly #rank: readonly number[];
  readonly #ways: Way[] = [];
  /** Keywords that hold in the ways that follow: ways that exclude each other multiply less. */
  readonly #held: [string, Json][] = [];
  #hasShape = false;

  constructor(around: Surroundings, schema: Schema, read: KeywordReader, rank: readonly number[]) {
    this.#around = around;
    this.#read = read;
    this.#schema = schema;
    this.#rank = rank;
  }

  ways(keywords: Dict): readonly Way[] {
    const entries = [...entriesOf(keywords)].map(([keyword, value], place): Entry => {
      return { keyword, value, rank: [...this.#rank, place] };
    });
    entries.sort((a, b) => FIRST_TO_HOLD.indexOf(b.keyword) - FIRST_TO_HOLD.indexOf(a.keyword));
    for (const entry of entries) {
      const { keyword, value } = entry;
      const isKnown =
        this.#compositions(entry) ||
        this.#scalars(entry) ||
        this.#items(entry) ||
        this.#properties(entry);
      if (!isKnown) this.#read.refuseUnsupported(keyword);
      if (FIRST_TO_HOLD.includes(keyword)) this.#held.push([keyword, value]);
    }
    return this.#ways;
  }

  #add(fail: Way): void {
    const around = this.#around;
    const holding = new Dict(this.#held);
    this.#ways.push((path) => {
      around.assert(this.#schema, holding, this.#rank, path);
      fail(path);
    });
  }

  /** Only values of the type can fail the keyword. */
  #ofType(type: JsonType, fail: Way): void {
    this.#add((path) => {
      path.subject.restrict([type]);
      fail(path);
    });
  }

  #unsupported(keyword: string): Way {
    const why = `needs the opposite of ${keyword} (for a not, if or oneOf), which is not supported`;
    return (path) => {
      path.unsupported ??= errorOf(() => refuse('unsupported', this.#read.at(keyword), why));
    };
  }

  /** Types, values, and keywords that are made of schemas. Whether the keyword is one of them. */
  #compositions({ keyword, value, rank }: Entry): boolean {
    const read = this.#read;
    switch (keyword) {
      case '$ref':
        this.#add(demanding(rank, not(read.reference(keyword))));
        break;
      case 'type': {
        const { types, isInteger } = read.types();
        const others = JSON_TYPES.filter((type) => !types.includes(type));
        this.#add(({ subject }) => subject.restrict(others));
        if (isInteger) this.#ofType('number', ({ subject }) => subject.onlyIntegers(false));
        break;
      }
      case 'enum':
      case 'const': {
        const values = keyword === 'const' ? [value] : read.values(keyword);
        const isPlain = (of: Json) => !Array.isArray(of) && !(of instanceof Dict);
        this.#add((path) => {
          path.subject.excluded = [...path.subject.excluded, ...values.filter(isPlain)];
          values.forEach((composed, at) => {
            if (isPlain(composed)) return;
            const pointer = within(read.at(keyword), at);
            path.choices.push(this.#waysToDiffer(composed, pointer, rank));
          });
        });
        break;
      }
      case 'allOf':
        for (const demand of read.schemas(keyword)) this.#add(demanding(rank, not(demand)));
        break;
      case 'anyOf':
        this.#add(demanding(rank, ...read.schemas(keyword).map(not)));
        break;
      case 'oneOf': {
        const all = read.schemas(keyword);
        this.#add(demanding(rank, ...all.map(not)));
        all.forEach((one, at) => {
          for (const other of all.slice(at + 1)) this.#add(demanding(rank, one, other));
        });
        break;
      }
      case 'not':
        this.#add(demanding(rank, read.schema(keyword)));
        break;
      case 'if':
        for (const [condition, then] of waysOfConditions(read)) {
          for (const demand of then) this.#add(demanding(rank, condition, not(demand)));
        }
        break;
      default:
        return false;
    }
    return true;
  }

  /** Of numbers and strings. Whether the keyword is one of them. */
  #scalars({ keyword }: Entry): boolean {
    const around = this.#around;
    const read = this.#read;
    switch (keyword) {
      case 'minimum':
      case 'exclusiveMinimum':
      case 'maximum':
      case 'exclusiveMaximum': {
        const bound = read.bound(keyword);
        if (bound === undefined) break;
        const beyond = { value: bound.value, isExclusive: !bound.isExclusive };
        const isLower = keyword === 'minimum' || keyword === 'exclusiveMinimum';
        this.#ofType('number', ({ subject }) =>
          isLower ? subject.atMost(beyond) : subject.atLeast(beyond),
        );
        break;
      }
      case 'multipleOf': {
        const divisor = read.divisor(keyword);
        this.#ofType('number', ({ subject }) => {
          subject.notMultipleOf = [...subject.notMultipleOf, divisor];
        });
        break;
      }
      case 'minLength':
        this.#ofType('string', ({ subject }) => subject.lengths(0, read.count(keyword) - 1));
        break;
      case 'maxLength':
        this.#ofType('string', ({ subject }) =>
          subject.lengths(read.count(keyword) + 1, Number.POSITIVE_INFINITY),
        );
        break;
      case 'pattern': {
        const language = around.pattern(read.text(keyword), read.at(keyword));
        this.#ofType('string', ({ subject }) => subject.match(language, false));
        break;
      }
      case 'format': {
        const language = around.format(read.text(keyword), read.at(keyword));
        if (language === undefined) break;
        this.#ofType('string', ({ subject }) => subject.match(language, false));
        break;
      }
      default:
        return false;
    }
    return true;
  }

  /** Of arrays. Whether the keyword is one of them. */
  #items({ keyword }: Entry): boolean {
    const read = this.#read;
    switch (keyword) {
      case 'minItems':
        this.#ofType('array', ({ subject }) => subject.items(0, read.count(keyword) - 1));
        break;
      case 'maxItems':
        this.#ofType('array', ({ subject }) =>
          subject.items(read.count(keyword) + 1, Number.POSITIVE_INFINITY),
        );
        break;
      case 'uniqueItems':
        if (read.flag(keyword)) this.#ofType('array', this.#unsupported(keyword));
        break;
      case 'items':
      case 'prefixItems': {
        const { prefix, rest } = read.row();
        prefix.forEach((demand, at) => {
          const before = prefix.slice(0, at).map(() => ANYTHING);
          this.#ofType('array', ({ subject }) => {
            subject.items(at + 1, Number.POSITIVE_INFINITY);
            subject.rows = [...subject.rows, { prefix: [...before, not(demand)], rest: undefined }];
          });
        });
        if (rest === undefined) break;
        const pointer = read.at(keyword);
        if (rest.schema.value === false) {
          this.#ofType('array', ({ subject }) =>
            subject.items(prefix.length + 1, Number.POSITIVE_INFINITY),
          );
        } else if (prefix.length === 0) {
          const max = Number.POSITIVE_INFINITY;
          this.#ofType('array', ({ subject }) => {
            const containing = { demand: not(rest), min: 1, max, pointer };
            subject.containing = [...subject.containing, containing];
          });
        } else {
          this.#ofType('array', this.#unsupported(keyword));
        }
        break;
      }
      case 'contains': {
        const { min, max } = read.containing();
        const none = { prefix: [], rest: not(read.schema(keyword)) };
        if (min === 1) {
          this.#ofType('array', ({ subject }) => {
            subject.rows = [...subject.rows, none];
          });
        }
        if (min > 1 || max < Number.POSITIVE_INFINITY)
          this.#ofType('array', this.#unsupported(keyword));
        break;
      }
      default:
        return false;
    }
    return true;
  }

  /** Of objects. Whether the keyword is one of them. */
  #properties({ keyword, rank }: Entry): boolean {
    const around = this.#around;
    const read = this.#read;
    switch (keyword) {
      case 'properties':
      case 'patternProperties':
      case 'additionalProperties':
        if (!this.#hasShape) this.#shape(rank);
        this.#hasShape = true;
        break;
      case 'required':
        read.names(keyword).forEach((name, at, names) => {
          this.#ofType('object', ({ subject }) => {
            subject.require(names.slice(0, at));
            subject.forbid(name);
          });
        });
        break;
      case 'minProperties':
        this.#ofType('object', ({ subject }) => subject.properties(0, read.count(keyword) - 1));
        break;
      case 'maxProperties':
        this.#ofType('object', ({ subject }) =>
          subject.properties(read.count(keyword) + 1, Number.POSITIVE_INFINITY),
        );
        break;
      case 'propertyNames': {
        const goal = around.goal([not(read.schema(keyword))]);
        const hasName = (name: string) => around.admits(goal, name);
        const keys = around.namesThatMeet(goal);
        const stray = { hasName, keys, demand: undefined, pointer: read.at(keyword) };
        this.#ofType('object', ({ subject }) => {
          subject.strays = [...subject.strays, stray];
        });
        break;
      }
      case 'dependentRequired':
      case 'dependentSchemas':
      case 'dependencies':
        for (const { name, names, demands } of read.dependencies(keyword)) {
          for (const missing of names) {
            this.#ofType('object', ({ subject }) => {
              subject.require([name]);
              subject.forbid(missing);
            });
          }
          for (const demand of demands) {
            this.#ofType('object', (path) => {
              path.subject.require([name]);
              path.demands.push(ranked(not(demand), rank));
            });
          }
        }
        break;
      default:
        return false;
    }
    return true;
  }

  #shape(rank: readonly number[]): void {
    const around = this.#around;
    const read = this.#read;
    const shape = around.shape(read, rank);
    const held = new Map<string, Demand>();
    const named = { patterns: [], rest: undefined, rank };
    for (const [name, demand] of shape.properties) {
      if (isTrivial(demand)) continue;
      const properties = new Map(held).set(name, not(demand));
      held.set(name, demand);
      this.#ofType('object', ({ subject }) => {
        subject.require([name]);
        subject.shapes = [...subject.shapes, { ...named, properties }];
      });
    }
    const addStray = (stray: Stray): void => {
      this.#ofType('object', ({ subject }) => {
        if (held.size > 0) subject.shapes = [...subject.shapes, { ...named, properties: held }];
        subject.strays = [...subject.strays, stray];
      });
    };
    for (const { keys, demand } of shape.patterns) {
      if (isTrivial(demand)) continue;
      const hasName = (name: string) => around.hasText(keys, name);
      addStray({ hasName, keys, demand: not(demand), pointer: read.at('patternProperties') });
    }
    const { rest } = shape;
    if (rest === undefined || isTrivial(rest)) return;
    const hasName = (name: string) => around.applying(shape, name).length === 0;
    const keys = difference(ANY_NAME, choice(...shape.patterns.map((pattern) => pattern.keys)));
    addStray({ hasName, keys, demand: not(rest), pointer: read.at('additionalProperties') });
  }

  /** Ways in which a value can be another than an array or an object. */
  #waysToDiffer(value: Json, pointer: string, rank: readonly number[]): Way[] {
    const own = typeOf(value);
    const ways: Way[] = [(path) => path.subject.drop(own)];
    const add = (way: Way): void => {
      ways.push((path) => {
        path.subject.restrict([own]);
        way(path);
      });
    };
    const unlike = (inner: Json, key: string | number): Demand => {
      const schema = this.#around.document.schemaAt(
        new Dict([['const', inner]]),
        within(pointer, '=', key),
      );
      return { schema, holds: false };
    };
    if (Array.isArray(value)) {
      const { length } = value;
      if (length > 0) add(({ subject }) => subject.items(0, length - 1));
      add(({ subject }) => subject.items(length + 1, Number.POSITIVE_INFINITY));
      value.forEach((item, at) => {
        const prefix = [...value.slice(0, at).map(() => ANYTHING), unlike(item, at)];
        add(({ subject }) => {
          subject.items(length, length);
          subject.rows = [...subject.rows, { prefix, rest: undefined }];
        });
      });
    }
    if (value instanceof Dict) {
      const names = [...entriesOf(value)].map(([name]) => name);
      names.forEach((name, at) => {
        add(({ subject }) => {
          subject.require(names.slice(0, at));
          subject.forbid(name);
        });
      });
      for (const [name, inner] of entriesOf(value)) {
        const properties = new Map([[name, unlike(inner, name)]]);
        add(({ subject }) => {
          subject.require(names);
          subject.shapes = [...subject.shapes, { properties, patterns: [], rest: undefined, rank }];
        });
      }
      const hasName = (name: string) => !names.includes(name);
      const keys = difference(ANY_NAME, choice(...names.map(text)));
      add(({ subject }) => {
        subject.require(names);
        subject.strays = [...subject.strays, { hasName, keys, demand: undefined, pointer }];
      });
    }
    return ways;
  }
}
