import { Dict } from '../../text/jinja/values.ts';
import { GrammarError } from '../errors.ts';
import type { Expression } from '../expression.ts';
import { Languages } from '../languages.ts';
import { regularExpression } from '../regular-expression.ts';
import { choice, text } from './build.ts';
import {
  Case,
  type Demand,
  type Goal,
  isEqual,
  isTrivial,
  not,
  type Shape,
  typeOf,
} from './cases.ts';
import {
  ceilingOf,
  compareDecimals,
  type Decimal,
  decimalOf,
  floorOf,
  isMultiple,
} from './decimal.ts';
import {
  entriesOf,
  type Json,
  refuse,
  type Schema,
  type SchemaDocument,
  within,
} from './document.ts';
import { formatPattern } from './formats.ts';
import { KeywordReader } from './keywords.ts';
import { type Surroundings, waysToFail } from './opposites.ts';
import {
  copyOf,
  demanding,
  type Path,
  type Ranked,
  ranked,
  type Way,
  waysOfConditions,
} from './paths.ts';
import { patternOf } from './strings.ts';

/** What is said of properties that are not named: the first of these that is there. */
const REST = ['additionalProperties', 'unevaluatedProperties'] as const;

const MAX_CASES = 400;
/** Demands that are looked at, over the whole schema. */
const MAX_STEPS = 2_000_000;
/** How deep it is asked, for a case, whether what it requires exists at all. */
const MAX_SEARCH_DEPTH = 24;
const MAX_EXCLUSION_DEPTH = 3;
const MAX_LANGUAGES_SEARCHED = 300;

/** Turns schemas into cases: follows references, merges what holds together, makes choices. */
export class Expander implements Surroundings {
  readonly document: SchemaDocument;
  readonly #goals = new Map<string, Goal>();
  readonly #cases = new Map<Goal, readonly Case[]>();
  readonly #open = new Set<Goal>();
  readonly #patterns = new Map<string, Expression>();
  readonly #languages = new Languages({ rules: new Map() }, MAX_LANGUAGES_SEARCHED);
  #steps = 0;
  #exclusionDepth = 0;
  #contradiction = '';

  constructor(document: SchemaDocument) {
    this.document = document;
  }

  /** Where the last case that was given up contradicted itself. */
  get contradiction(): string {
    return this.#contradiction;
  }

  goal(demands: readonly Demand[]): Goal {
    const distinct = new Map<string, Demand>();
    for (const demand of demands) {
      const { schema, holds } = demand;
      if (!isTrivial(demand)) distinct.set(`${holds ? '' : '-'}${schema.id}`, demand);
    }
    const key = [...distinct.keys()].join(' ');
    const found = this.#goals.get(key);
    if (found !== undefined) return found;
    const goal: Goal = { demands: [...distinct.values()], id: this.#goals.size };
    this.#goals.set(key, goal);
    return goal;
  }

  /** The cases of which a value that meets the goal is one; none: no value does. */
  cases(goal: Goal): readonly Case[] {
    const known = this.#cases.get(goal);
    if (known !== undefined) return known;
    const [first] = goal.demands;
    if (this.#open.has(goal)) {
      refuse('unsupported', first?.schema.pointer ?? '', 'needs itself to be understood');
    }
    this.#open.add(goal);
    const cases: Case[] = [];
    try {
      for (const path of this.#run(new Case(), goal.demands)) {
        if (path.unsupported !== undefined) throw path.unsupported;
        cases.push(path.subject);
        if (cases.length <= MAX_CASES) continue;
        refuse('too-large', first?.schema.pointer ?? '', `has more than ${MAX_CASES} alternatives`);
      }
    } finally {
      this.#open.delete(goal);
    }
    this.#cases.set(goal, cases);
    return cases;
  }

  /** Whether it is certain that no value meets the goal. */
  isEmpty(goal: Goal): boolean {
    if (this.#open.has(goal) || this.#open.size > MAX_SEARCH_DEPTH) return false;
    try {
      return this.cases(goal).length === 0;
    } catch (error) {
      if (!(error instanceof GrammarError) || error.code !== 'unsupported') throw error;
      return false;
    }
  }

  /** Whether `value` meets the goal. */
  admits(goal: Goal, value: Json): boolean {
    return this.cases(goal).some((subject) => this.#caseAdmits(subject, value));
  }

  /** What the property `name` must meet. */
  propertyGoal(subject: Case, name: string): Goal {
    const demands = subject.shapes.flatMap((shape) => {
      const found = this.applying(shape, name);
      return found.length > 0 || shape.rest === undefined ? found : [shape.rest];
    });
    return this.goal(demands);
  }

  itemGoal(subject: Case, at: number): Goal {
    return this.goal(
      subject.rows.flatMap(({ prefix, rest }) => prefix[at] ?? (rest === undefined ? [] : [rest])),
    );
  }

  /** Whether all demands on names admit this one. */
  admitsName(subject: Case, name: string): boolean {
    return subject.names.every((demand) => this.admits(this.goal([demand]), name));
  }

  /** The language of strings, decoded, that meet a goal. */
  namesThatMeet(goal: Goal): Expression {
    return choice(
      ...this.cases(goal).flatMap((subject) => {
        if (!subject.types.has('string')) return [];
        if (subject.values === undefined) return [patternOf(subject)];
        return subject.values.filter((value) => typeof value === 'string').map(text);
      }),
    );
  }

  /** Whether the language, of decoded strings, has this text. */
  hasText(language: Expression, text: string): boolean {
    const languages = this.#languages;
    let rest = languages.of(language);
    for (const character of text) {
      rest = languages.derivative(rest, character.codePointAt(0) ?? 0);
    }
    return languages.isNullable(rest);
  }

  /** Whether it is certain that the language has no text. */
  hasNoText(language: Expression): boolean {
    return this.#languages.isEmpty(this.#languages.of(language));
  }

  applying(shape: Shape, name: string): Demand[] {
    const own = shape.properties.get(name);
    const matching = shape.patterns.filter(({ keys }) => this.hasText(keys, name));
    return [...(own === undefined ? [] : [own]), ...matching.map(({ demand }) => demand)];
  }

  #caseAdmits(subject: Case, value: Json): boolean {
    const type = typeOf(value);
    if (!subject.types.has(type)) return false;
    if (subject.values?.some((other) => isEqual(other, value)) === false) return false;
    if (subject.excluded.some((other) => isEqual(other, value))) return false;
    if (typeof value === 'number' || typeof value === 'bigint') {
      const number = decimalOf(value);
      return number !== undefined && admitsNumber(subject, number);
    }
    if (typeof value === 'string') {
      const { length } = [...value];
      if (length < subject.minLength || length > subject.maxLength) return false;
      return subject.patterns.every((of) => this.hasText(of.language, value) === of.holds);
    }
    if (Array.isArray(value)) return this.#admitsItems(subject, value);
    return !(value instanceof Dict) || this.#admitsProperties(subject, value);
  }

  #admitsItems(subject: Case, items: readonly Json[]): boolean {
    const { length } = items;
    if (length < subject.minItems || length > subject.maxItems) return false;
    if (!items.every((item, at) => this.admits(this.itemGoal(subject, at), item))) return false;
    const isRepeated = (item: Json, at: number) =>
      items.slice(0, at).some((other) => isEqual(item, other));
    if (subject.uniqueItems !== undefined && items.some(isRepeated)) return false;
    return subject.containing.every(({ demand, min, max }) => {
      const { length: count } = items.filter((item) => this.admits(this.goal([demand]), item));
      return count >= min && count <= max;
    });
  }

  #admitsProperties(subject: Case, object: Dict): boolean {
    const entries = [...entriesOf(object)];
    if (entries.length < subject.minProperties || entries.length > subject.maxProperties) {
      return false;
    }
    if ([...subject.required].some((name) => !object.has(name))) return false;
    const hasAll = [...subject.strays, ...subject.unnamed].every(({ hasName, demand }) =>
      entries.some(([name, value]) => {
        return hasName(name) && (demand === undefined || this.admits(this.goal([demand]), value));
      }),
    );
    if (!hasAll) return false;
    return entries.every(
      ([name, value]) =>
        !subject.absent.has(name) &&
        this.admitsName(subject, name) &&
        this.admits(this.propertyGoal(subject, name), value),
    );
  }

  /** The cases of `demands` together with what `subject` says. */
  *#run(subject: Case, demands: readonly Demand[]): Generator<Path> {
    const start: Path = {
      subject: subject.clone(),
      demands: demands.map((demand, at) => ranked(demand, [at])),
      choices: [],
      seen: new Map(),
      unsupported: undefined,
    };
    const open = [start];
    for (let path = open.pop(); path !== undefined; path = open.pop()) {
      if (!this.#meetAll(path) || !this.#mayHaveObjects(path.subject)) continue;
      const ways = path.choices.shift() ?? this.#findStray(path);
      if (ways === undefined) {
        if (this.#isPossible(path)) yield path;
        continue;
      }
      const choices = ways.map((way) => {
        this.#spend(1 + path.seen.size);
        const copy = copyOf(path);
        way(copy);
        return copy;
      });
      open.push(...choices.reverse());
    }
  }

  /** Meets demands until there are only choices left. False where they contradict each other. */
  #meetAll(path: Path): boolean {
    for (let demand = path.demands.shift(); demand !== undefined; demand = path.demands.shift()) {
      this.#spend(1 + path.choices.length);
      const seen = path.seen.get(demand.schema);
      path.seen.set(demand.schema, demand.holds);
      if (seen === undefined) this.#meet(demand, path);
      else if (seen !== demand.holds) path.subject.restrict([]);
      if (path.subject.isDead) {
        this.#contradiction = demand.schema.pointer;
        return false;
      }
    }
    return !path.subject.isDead;
  }

  #spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps <= MAX_STEPS) return;
    refuse('too-large', '', `takes more than ${MAX_STEPS} steps to write its alternatives out`);
  }

  /** Before more choices are made: they multiply. */
  #mayHaveObjects(subject: Case): boolean {
    if (subject.values !== undefined || !subject.types.has('object')) return true;
    if (!this.#hasObjects(subject)) subject.drop('object');
    return !subject.isDead;
  }

  #meet({ schema, holds, rank }: Ranked, path: Path): void {
    if (typeof schema.value === 'boolean') {
      if (schema.value !== holds) path.subject.restrict([]);
    } else if (holds) {
      this.assert(schema, schema.value, rank, path);
    } else {
      const read = new KeywordReader(this.document, schema, schema.value);
      path.choices.push(waysToFail(this, schema, schema.value, read, rank));
    }
  }

  /** Adds what the keywords of a schema assert. */
  assert(schema: Schema, keywords: Dict, outer: readonly number[], path: Path): void {
    const { subject, demands, choices } = path;
    const read = new KeywordReader(this.document, schema, keywords);
    let rank = outer;
    const isNullable = keywords.get('nullable') === true;
    let hasShape = false;
    let hasRow = false;
    for (const [place, [keyword, value]] of [...entriesOf(keywords)].entries()) {
      rank = [...outer, place];
      switch (keyword) {
        case '$ref':
          demands.push(ranked(read.reference(keyword), rank));
          break;
        case 'type': {
          const { types, isInteger } = read.types();
          subject.restrict(isNullable ? [...types, 'null'] : types);
          if (isInteger) subject.onlyIntegers(true);
          break;
        }
        case 'enum':
          subject.oneOf(isNullable ? [...read.values(keyword), null] : read.values(keyword));
          break;
        case 'const':
          subject.oneOf([value]);
          break;
        case 'allOf':
          demands.push(...read.schemas(keyword).map((demand, at) => ranked(demand, [...rank, at])));
          break;
        case 'anyOf':
          choices.push(read.schemas(keyword).map((demand) => demanding(rank, demand)));
          break;
        case 'oneOf':
          choices.push(this.#waysToMeetOne(read.schemas(keyword), rank, subject, path.seen));
          break;
        case 'not':
          demands.push(ranked(not(read.schema(keyword)), rank));
          break;
        case 'if':
          if (!read.has('then') && !read.has('else')) break;
          choices.push(
            waysOfConditions(read).map(([condition, then]) => demanding(rank, condition, ...then)),
          );
          break;
        case 'minimum':
        case 'exclusiveMinimum':
        case 'maximum':
        case 'exclusiveMaximum': {
          const bound = read.bound(keyword);
          if (bound === undefined) break;
          if (keyword === 'minimum' || keyword === 'exclusiveMinimum') subject.atLeast(bound);
          else subject.atMost(bound);
          break;
        }
        case 'multipleOf':
          subject.onlyMultiples(read.divisor(keyword));
          break;
        case 'minLength':
          subject.lengths(read.count(keyword), Number.POSITIVE_INFINITY);
          break;
        case 'maxLength':
          subject.lengths(0, read.count(keyword));
          break;
        case 'pattern':
          subject.match(this.pattern(read.text(keyword), read.at(keyword)), true);
          break;
        case 'format': {
          const language = this.format(read.text(keyword), read.at(keyword));
          if (language !== undefined) subject.match(language, true);
          break;
        }
        case 'minItems':
          subject.items(read.count(keyword), Number.POSITIVE_INFINITY);
          break;
        case 'maxItems':
          subject.items(0, read.count(keyword));
          break;
        case 'uniqueItems':
          if (read.flag(keyword)) subject.uniqueItems = read.at(keyword);
          break;
        case 'items':
        case 'prefixItems':
          if (!hasRow) subject.rows = [...subject.rows, read.row()];
          hasRow = true;
          break;
        case 'contains': {
          const { min, max } = read.containing();
          const pointer = read.at(keyword);
          const containing = { demand: read.schema(keyword), min, max, pointer };
          if (min > 0 || max < Number.POSITIVE_INFINITY) {
            subject.containing = [...subject.containing, containing];
          }
          break;
        }
        case 'properties':
        case 'patternProperties':
        case 'additionalProperties':
        case 'unevaluatedProperties':
          // Beside what adds properties of other schemas it is refused.
          if (keyword === 'unevaluatedProperties' && !read.isAloneWithProperties) {
            read.refuseUnsupported(keyword);
          }
          if (!hasShape) subject.shapes = [...subject.shapes, this.shape(read, rank)];
          hasShape = true;
          break;
        case 'required':
          subject.require(read.names(keyword));
          break;
        case 'minProperties':
          subject.properties(read.count(keyword), Number.POSITIVE_INFINITY);
          break;
        case 'maxProperties':
          subject.properties(0, read.count(keyword));
          break;
        case 'propertyNames':
          subject.names = [...subject.names, read.schema(keyword)];
          break;
        case 'dependentRequired':
        case 'dependentSchemas':
        case 'dependencies':
          for (const dependency of read.dependencies(keyword)) {
            choices.push([
              (way) => way.subject.forbid(dependency.name),
              (way) => {
                way.subject.restrict(['object']);
                way.subject.require([dependency.name, ...dependency.names]);
                way.demands.push(...dependency.demands.map((demand) => ranked(demand, rank)));
              },
            ]);
          }
          break;
        default:
          read.refuseUnsupported(keyword);
      }
    }
  }

  /**
   * One of the demands must be met, and no other: where two can be met at once, the other is
   * excluded expressly.
   */
  #waysToMeetOne(
    all: readonly Demand[],
    rank: readonly number[],
    subject: Case,
    seen: Path['seen'],
  ): Way[] {
    return all.map((one, at) => {
      const rivals = all.filter((other, place) => {
        return place !== at && this.#canMeet(subject, [one, other], seen);
      });
      return demanding(rank, one, ...rivals.map(not));
    });
  }

  #canMeet(subject: Case, demands: readonly Demand[], seen: Path['seen']): boolean {
    if (demands.some(({ schema, holds }) => seen.get(schema) === !holds)) return false;
    if (this.#exclusionDepth >= MAX_EXCLUSION_DEPTH) return true;
    this.#exclusionDepth += 1;
    try {
      for (const _ of this.#run(subject, demands)) return true;
      return false;
    } finally {
      this.#exclusionDepth -= 1;
    }
  }

  /** The names that a property that must be there can have. */
  #findStray(path: Path): Way[] | undefined {
    const { subject } = path;
    const [stray, ...strays] = subject.strays;
    if (stray === undefined || subject.values !== undefined) return undefined;
    subject.strays = strays;
    const { hasName, demand } = stray;
    const named = new Set(subject.shapes.flatMap((shape) => [...shape.properties.keys()]));
    const names = [...named, ...subject.required].filter(
      (name) => hasName(name) && !subject.absent.has(name),
    );
    const ways: Way[] = [];
    const shape = { patterns: [], rest: undefined, rank: [] };
    names.forEach((name, at) => {
      ways.push((way) => {
        this.#holdNone(way.subject, names.slice(0, at), demand);
        way.subject.require([name]);
        if (demand === undefined) return;
        const properties = new Map([[name, demand]]);
        way.subject.shapes = [...way.subject.shapes, { ...shape, properties }];
      });
    });
    const isClosed = subject.shapes.some(({ patterns, rest }) => {
      return patterns.length === 0 && rest?.holds === true && rest.schema.value === false;
    });
    if (isClosed) return ways;
    ways.push((way) => {
      this.#holdNone(way.subject, names, demand);
      way.subject.unnamed = [...way.subject.unnamed, stray];
    });
    return ways;
  }

  /** Of these names there is none whose value meets the demand. */
  #holdNone(subject: Case, names: readonly string[], demand: Demand | undefined): void {
    if (names.length === 0) return;
    if (demand === undefined || isTrivial(demand)) {
      for (const name of names) subject.forbid(name);
    } else {
      const properties = new Map(names.map((name) => [name, not(demand)]));
      const shape = { properties, patterns: [], rest: undefined, rank: [] };
      subject.shapes = [...subject.shapes, shape];
    }
  }

  /** Drops types and values that contradict something; whether any value is left. */
  #isPossible(path: Path): boolean {
    const { subject } = path;
    subject.shapes = subject.shapes.toSorted((a, b) => compareRanks(a.rank, b.rank));
    if (subject.values !== undefined) {
      const values = subject.values.filter((value) => this.#caseAdmits(subject, value));
      subject.values = values;
      subject.restrict(values.map(typeOf));
    } else {
      if (subject.types.has('number') && !hasNumbers(subject)) subject.drop('number');
      if (subject.types.has('string') && !this.#hasStrings(subject)) subject.drop('string');
      if (subject.types.has('array') && !this.#hasArrays(subject)) subject.drop('array');
      if (subject.types.has('object') && !this.#hasObjects(subject)) subject.drop('object');
    }
    for (const type of ['null', 'boolean'] as const) {
      const all = type === 'null' ? [null] : [true, false];
      if (all.every((value) => subject.excluded.includes(value))) subject.drop(type);
    }
    return !subject.isDead;
  }

  #hasStrings(subject: Case): boolean {
    return !this.hasNoText(patternOf(subject));
  }

  #hasArrays(subject: Case): boolean {
    const { minItems, containing } = subject;
    const least = Math.max(minItems, containing.some(({ min }) => min > 0) ? 1 : 0);
    if (least > subject.maxItems) return false;
    const longest = Math.max(0, ...subject.rows.map(({ prefix }) => prefix.length));
    for (let at = 0; at < Math.min(least, longest + 1); at++) {
      if (this.isEmpty(this.itemGoal(subject, at))) return false;
    }
    return true;
  }

  #hasObjects(subject: Case): boolean {
    if (subject.required.size > subject.maxProperties) return false;
    this.#spend(subject.required.size * subject.shapes.length);
    for (const name of subject.required) {
      const goal = this.propertyGoal(subject, name);
      if (this.isEmpty(goal) || !this.admitsName(subject, name)) {
        this.#contradiction = goal.demands[0]?.schema.pointer ?? '';
        return false;
      }
    }
    return true;
  }

  pattern(pattern: string, pointer: string): Expression {
    const found = this.#patterns.get(pattern);
    if (found !== undefined) return found;
    try {
      const language = regularExpression(pattern, 'search');
      this.#patterns.set(pattern, language);
      return language;
    } catch (error) {
      if (!(error instanceof GrammarError)) throw error;
      return refuse(
        error.code,
        pointer,
        `has a regular expression that is refused: ${error.message}`,
      );
    }
  }

  /** Undefined where the format is not one of JSON Schema's own. */
  format(name: string, pointer: string): Expression | undefined {
    const pattern = formatPattern(name);
    if (pattern === 'unsupported') {
      refuse('unsupported', pointer, `uses the format ${name}, which is not supported`);
    }
    return pattern === undefined ? undefined : this.pattern(pattern, pointer);
  }

  shape(read: KeywordReader, rank: readonly number[]): Shape {
    const patterns = read.schemasByKey('patternProperties').map(([pattern, demand]) => {
      return {
        keys: this.pattern(pattern, within(read.at('patternProperties'), pattern)),
        demand,
      };
    });
    return {
      properties: new Map(read.schemasByKey('properties')),
      patterns,
      rest: REST.filter((keyword) => read.has(keyword)).map((keyword) => read.schema(keyword))[0],
      rank,
    };
  }
}

function compareRanks(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((place, depth) => place !== b[depth]);
  return at < 0 ? a.length - b.length : (a[at] ?? 0) - (b[at] ?? -1);
}

function admitsNumber(subject: Case, value: Decimal): boolean {
  const { minimum, maximum, multipleOf, notMultipleOf, isInteger } = subject;
  if (isInteger !== undefined && (value.scale === 0) !== isInteger) return false;
  if (multipleOf !== undefined && !isMultiple(value, multipleOf)) return false;
  if (notMultipleOf.some((divisor) => isMultiple(value, divisor))) return false;
  const above = minimum === undefined ? 1 : compareDecimals(value, minimum.value);
  const below = maximum === undefined ? -1 : compareDecimals(value, maximum.value);
  if (above < 0 || (above === 0 && minimum?.isExclusive === true)) return false;
  return below < 0 || (below === 0 && maximum?.isExclusive === false);
}

function hasNumbers({ minimum, maximum, isInteger }: Case): boolean {
  if (minimum === undefined || maximum === undefined) return true;
  const order = compareDecimals(minimum.value, maximum.value);
  if (order > 0) return false;
  if (order === 0 && (minimum.isExclusive || maximum.isExclusive)) return false;
  if (isInteger !== true) return true;
  const isWhole = (value: Decimal) => value.scale === 0;
  const first =
    ceilingOf(minimum.value) + (minimum.isExclusive && isWhole(minimum.value) ? 1n : 0n);
  const last = floorOf(maximum.value) - (maximum.isExclusive && isWhole(maximum.value) ? 1n : 0n);
  return first <= last;
}
