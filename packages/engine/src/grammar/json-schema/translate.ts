import { Dict } from '../../text/jinja/values.ts';
import type { Expression, Grammar } from '../expression.ts';
import {
  choice,
  difference,
  IMPOSSIBLE,
  intersection,
  isImpossible,
  NOTHING,
  optional,
  repeat,
  sequence,
  text,
} from './build.ts';
import {
  type Case,
  type Demand,
  type Goal,
  isEqual,
  JSON_TYPES,
  type JsonType,
  not,
  typeOf,
} from './cases.ts';
import { entriesOf, type Json, refuse, SchemaDocument } from './document.ts';
import { Expander } from './expand.ts';
import { mergeEqualRules } from './merge.ts';
import { FREE_NUMBER, numberLanguage } from './numbers.ts';
import { ANY_NAME, encoded, FREE_CHARACTER, isFree, patternOf, quoted } from './strings.ts';

export interface JsonOptions {
  /**
   * The order of properties: `declared`, as the schema names them, before those that it does not
   * name; or `free`, for objects of up to MAX_FREE_PROPERTIES named ones. Default: declared.
   */
  readonly order?: 'declared' | 'free';
  /**
   * What may be between a text's parts: `line`, one space after a comma or colon, or none; `lines`,
   * also line breaks with up to MAX_INDENT spaces or tabs wherever text that is indented has them.
   * Default: line.
   */
  readonly whitespace?: 'line' | 'lines';
}

const MAX_FREE_PROPERTIES = 8;
/** Of a line: eight levels of four spaces. */
const MAX_INDENT = 32;
const MAX_RULES = 20_000;
/** Ways to count properties where their number is bounded. */
const MAX_COUNTED = 4000;
/** Of patternProperties that may apply to one name at once. */
const MAX_KEY_PATTERNS = 5;
/** Of items that are counted one by one. */
const MAX_PLACES = 32;
/** Of items that must all be different, and may be in any order. */
const MAX_UNIQUE_VALUES = 6;
/** Of properties in one sequence: more are nested, so that what is nested is shared. */
const BLOCK = 16;

/** A grammar of the JSON texts whose value fulfils a schema. Throws GrammarError. */
export function schemaGrammar(schema: Json, options: JsonOptions = {}): Grammar {
  return new Translator(new SchemaDocument(schema), options).grammar();
}

/** A grammar of the texts of JSON objects, whatever is in them. */
export function jsonObjectGrammar(options: JsonOptions = {}): Grammar {
  return schemaGrammar(new Dict([['type', 'object']]), options);
}

/** One property of an object: its text, from its name to the end of its value. */
interface Member {
  readonly pair: Expression;
  readonly isRequired: boolean;
}

/** What may be in an object, and how much of it. */
interface Members {
  readonly named: readonly Member[];
  /** One that is not named. */
  readonly other: Expression;
  /** Of these there must be one or more, behind all others: a name that comes again replaces. */
  readonly wanted: { readonly before: Expression; readonly found: Expression } | undefined;
  readonly min: number;
  readonly max: number;
}

/** Of the properties that are not named, only those with such names, or with such values. */
interface Only {
  readonly keys?: Expression;
  readonly without?: Expression;
  readonly demand?: Demand | undefined;
}

class Translator {
  readonly #expander: Expander;
  readonly #options: JsonOptions;
  readonly #root: Goal;
  readonly #rules = new Map<string, Expression>();
  readonly #names = new Map<Goal, string>();
  readonly #pending: Goal[] = [];
  readonly #languageIds = new Map<Expression, number>();
  readonly #comma: Expression;
  readonly #colon: Expression;
  /** Within brackets, before what is in them and behind it. */
  readonly #padding: Expression;

  constructor(document: SchemaDocument, options: JsonOptions) {
    this.#expander = new Expander(document);
    this.#options = options;
    this.#root = this.#expander.goal([{ schema: document.root, holds: true }]);
    const space = optional(text(' '));
    const indent = sequence(text('\n'), repeat(choice(text(' '), text('\t')), 0, MAX_INDENT));
    const areLines = options.whitespace === 'lines';
    this.#comma = sequence(text(','), areLines ? optional(choice(text(' '), indent)) : space);
    this.#colon = sequence(text(':'), space);
    this.#padding = areLines ? optional(indent) : NOTHING;
  }

  grammar(): Grammar {
    if (this.#expander.isEmpty(this.#root)) {
      refuse(
        'contradiction',
        this.#expander.contradiction,
        'contradicts itself: no value fulfils it',
      );
    }
    const root = this.#value(this.#root);
    for (let goal = this.#pending.pop(); goal !== undefined; goal = this.#pending.pop()) {
      this.#rules.set(this.#names.get(goal) ?? '', this.#body(goal));
    }
    return mergeEqualRules({ root, rules: this.#rules });
  }

  /** The texts of values that meet a goal: a rule, so that goals may need each other. */
  #value(goal: Goal): Expression {
    if (this.#expander.isEmpty(goal)) return IMPOSSIBLE;
    const known = this.#names.get(goal);
    if (known !== undefined) return { kind: 'rule', name: known };
    const pointer = pointerOf(goal);
    const name = `${goal.demands.length === 0 ? 'any value' : `#${pointer}`} (${goal.id})`;
    this.#names.set(goal, name);
    this.#pending.push(goal);
    this.#holdRules(pointer);
    return { kind: 'rule', name };
  }

  #holdRules(pointer: string): void {
    if (this.#names.size + this.#rules.size > MAX_RULES) {
      refuse('too-large', pointer, `needs more than ${MAX_RULES} rules`);
    }
  }

  #body(goal: Goal): Expression {
    const pointer = pointerOf(goal);
    const cases = this.#expander.cases(goal);
    return choice(...JSON_TYPES.flatMap((type) => this.#ofType(type, cases, pointer)));
  }

  /** The texts of values of one type. Where one case admits all of them, the others say nothing. */
  #ofType(type: JsonType, cases: readonly Case[], pointer: string): readonly Expression[] {
    const own = cases.filter(({ types }) => types.has(type));
    const free = own.find((subject) => isUnbound(subject, type));
    return (free === undefined ? own : [free]).flatMap((subject) => {
      if (subject.values !== undefined) {
        const values = subject.values.filter((value) => hasType(value, type));
        return values.map((value) => this.#literal(value));
      }
      return this.#ofCase(type, subject, pointer);
    });
  }

  #ofCase(type: JsonType, subject: Case, pointer: string): Expression {
    switch (type) {
      case 'null':
        return text('null');
      case 'boolean': {
        const values = [true, false].filter((value) => !subject.excluded.includes(value));
        return choice(...values.map((value) => text(String(value))));
      }
      case 'number':
        return this.#shared('a number', FREE_NUMBER, numberLanguage(subject, pointer));
      case 'string':
        return this.#string(subject);
      case 'array':
        this.#refuseExclusions(subject, type, pointer);
        return sequence(text('['), this.#items(subject), text(']'));
      case 'object':
        this.#refuseExclusions(subject, type, pointer);
        return sequence(
          text('{'),
          this.#members(this.#membersOf(subject, pointer), pointer),
          text('}'),
        );
    }
  }

  /** A rule of its own for what is in many places. */
  #shared(name: string, body: Expression, wanted: Expression): Expression {
    if (body !== wanted) return wanted;
    this.#rules.set(name, body);
    return { kind: 'rule', name };
  }

  #refuseExclusions(subject: Case, type: JsonType, pointer: string): void {
    if (!subject.excluded.some((value) => hasType(value, type))) return;
    refuse(
      'unsupported',
      pointer,
      `excludes single values of type ${type}, which is not supported`,
    );
  }

  #literal(value: Json): Expression {
    if (typeof value === 'string') return quoted(value);
    if (Array.isArray(value)) {
      return this.#bracketed(
        '[',
        value.map((item) => this.#literal(item)),
        ']',
      );
    }
    if (value instanceof Dict) {
      const entries = [...entriesOf(value)];
      return this.#bracketed(
        '{',
        entries.map(([name, of]) => this.#pair(quoted(name), this.#literal(of))),
        '}',
      );
    }
    return text(String(value));
  }

  #bracketed(open: string, items: readonly Expression[], close: string): Expression {
    if (items.length === 0) return text(open + close);
    const separated = items.flatMap((item, at) => (at === 0 ? [item] : [this.#comma, item]));
    return sequence(text(open), this.#padding, ...separated, this.#padding, text(close));
  }

  #pair(name: Expression, value: Expression): Expression {
    return sequence(name, this.#colon, value);
  }

  #string(subject: Case): Expression {
    const { minLength: min, maxLength: max } = subject;
    if (!isFree(subject)) return this.#patternedString(subject);
    if (min === 0 && max === Number.POSITIVE_INFINITY) return this.#anyString();
    const length = Number.isFinite(max) ? max : undefined;
    return sequence(text('"'), repeat(FREE_CHARACTER, min, length), text('"'));
  }

  /** Equal ones are one rule: what it takes to compile them is spent once. */
  #patternedString(subject: Case): Expression {
    const { minLength, maxLength, patterns, excluded } = subject;
    const languages = patterns.map(({ language, holds }) => {
      const id = this.#languageIds.get(language) ?? this.#languageIds.size;
      this.#languageIds.set(language, id);
      return holds ? id : -1 - id;
    });
    const strings = excluded.filter((value) => typeof value === 'string');
    const name = `a string ${JSON.stringify([languages, minLength, maxLength, strings])}`;
    if (!this.#rules.has(name)) {
      this.#rules.set(name, sequence(text('"'), encoded(patternOf(subject)), text('"')));
    }
    return { kind: 'rule', name };
  }

  #anyString(): Expression {
    return this.#shared('a string', ANY_STRING, ANY_STRING);
  }

  #items(subject: Case): Expression {
    const { minItems: min } = subject;
    let max = subject.maxItems;
    const fixed = Math.max(0, ...subject.rows.map(({ prefix }) => prefix.length));
    const prefix: Expression[] = [];
    for (let at = 0; at < Math.min(fixed, max); at++) {
      const item = this.#value(this.#expander.itemGoal(subject, at));
      if (isImpossible(item)) max = at;
      else prefix.push(item);
    }
    const restGoal = this.#expander.itemGoal(subject, fixed);
    const rest = this.#value(restGoal);
    if (isImpossible(rest)) max = Math.min(max, fixed);
    if (max < min) return IMPOSSIBLE;
    if (subject.uniqueItems !== undefined && max > 1) {
      return this.#uniqueItems(subject, restGoal, fixed, max);
    }
    if (subject.containing.length > 0) return this.#containingItems(subject, restGoal, fixed, max);

    const more = (from: number) => {
      const most = Number.isFinite(max) ? max - from : undefined;
      return repeat(sequence(this.#comma, rest), Math.max(0, min - from), most);
    };
    // From the end: each item may be the last one, once there are enough.
    let tail = max > fixed ? (fixed === 0 ? this.#listOf(rest, min, max) : more(fixed)) : NOTHING;
    if (fixed === 0) return this.#padded(tail);
    for (let at = prefix.length - 1; at >= 0; at--) {
      const item = prefix[at] ?? IMPOSSIBLE;
      const all = sequence(...(at === 0 ? [] : [this.#comma]), item, tail);
      tail = at < min ? all : optional(all);
    }
    return this.#padded(tail);
  }

  /** From `min` to `max` items, with commas. */
  #listOf(item: Expression, min: number, max: number): Expression {
    if (max === 0) return NOTHING;
    const most = Number.isFinite(max) ? max - 1 : undefined;
    const list = sequence(item, repeat(sequence(this.#comma, item), Math.max(0, min - 1), most));
    return min === 0 ? optional(list) : list;
  }

  /** What is in brackets, where empty brackets are written without whitespace. */
  #padded(inner: Expression): Expression {
    if (inner.kind === 'repeat' && inner.min === 0 && inner.max === 1) {
      return optional(sequence(this.#padding, inner.body, this.#padding));
    }
    return inner === NOTHING ? NOTHING : sequence(this.#padding, inner, this.#padding);
  }

  /** Items of which one, the first that can, meets a further demand. */
  #containingItems(subject: Case, goal: Goal, fixed: number, max: number): Expression {
    const [wanted, ...more] = subject.containing;
    if (wanted === undefined) return IMPOSSIBLE;
    const isSimple = more.length === 0 && fixed === 0 && wanted.min === 1;
    if (!isSimple || wanted.max !== Number.POSITIVE_INFINITY) {
      refuse(
        'unsupported',
        wanted.pointer,
        'uses contains beside another contains, a prefix or counts',
      );
    }
    const { minItems: min } = subject;
    const counted = Number.isFinite(max) ? max : min;
    if (counted > MAX_PLACES) {
      const why = `uses contains beside minItems or maxItems of more than ${MAX_PLACES}`;
      refuse('unsupported', wanted.pointer, why);
    }
    const before = this.#value(this.#expander.goal([...goal.demands, not(wanted.demand)]));
    const found = this.#value(this.#expander.goal([...goal.demands, wanted.demand]));
    const any = sequence(this.#comma, this.#value(goal));
    const skipped = sequence(before, this.#comma);
    // By place of the item that is found; from the last that is counted on, it no longer matters.
    const options: Expression[] = [];
    for (let at = 0; at < counted; at++) {
      const rest = repeat(
        any,
        Math.max(0, min - 1 - at),
        Number.isFinite(max) ? max - 1 - at : undefined,
      );
      options.push(sequence(repeat(skipped, at, at), found, rest));
    }
    if (!Number.isFinite(max)) {
      options.push(sequence(repeat(skipped, counted, undefined), found, repeat(any, 0, undefined)));
    }
    return this.#padded(choice(...options));
  }

  /**
   * Items that all differ, where the values that they can have are listed: in any order where these
   * are few, else in the order of the list.
   */
  #uniqueItems(subject: Case, goal: Goal, fixed: number, max: number): Expression {
    const pointer = subject.uniqueItems ?? '';
    const values = this.#expander.cases(goal).map((of) => listedValues(of));
    const all = values.every((of) => of !== undefined) ? distinctValues(values.flat()) : undefined;
    if (all === undefined || fixed > 0 || subject.containing.length > 0) {
      return refuse(
        'unsupported',
        pointer,
        'uses uniqueItems of items that are not listed by enum',
      );
    }
    const literals = all.map((value) => this.#literal(value));
    if (all.length > MAX_UNIQUE_VALUES) {
      const named = literals.map((pair) => ({ pair, isRequired: false }));
      const members = { named, other: IMPOSSIBLE, wanted: undefined, min: subject.minItems, max };
      return this.#members(members, pointer);
    }
    const known = new Map<number, Expression>();
    /** What may follow when those of `used`, a set of bits, were there. */
    const after = (used: number, count: number): Expression => {
      const found = known.get(used);
      if (found !== undefined) return found;
      const options = literals.flatMap((literal, at) => {
        if ((used & (1 << at)) !== 0 || count >= max) return [];
        const comma = count === 0 ? [] : [this.#comma];
        return [
          {
            kind: 'sequence' as const,
            parts: [...comma, literal, after(used | (1 << at), count + 1)],
          },
        ];
      });
      const expression =
        count < subject.minItems ? choice(...options) : choice(NOTHING, ...options);
      known.set(used, expression);
      return expression;
    };
    return this.#padded(after(0, 0));
  }

  #membersOf(subject: Case, pointer: string): Members {
    const { shapes, required, absent, minProperties: min, maxProperties: max } = subject;
    const names = new Set(shapes.flatMap(({ properties }) => [...properties.keys()]));
    for (const name of required) names.add(name);
    const named = [...names].flatMap((name): Member[] => {
      if (absent.has(name) || !this.#expander.admitsName(subject, name)) return [];
      const value = this.#value(this.#expander.propertyGoal(subject, name));
      if (isImpossible(value)) return [];
      return [{ pair: this.#pair(quoted(name), value), isRequired: required.has(name) }];
    });
    const others = (only: Only) =>
      choice(...this.#otherMembers(subject, new Set([...names, ...absent]), only, pointer));
    const other = others({});
    const [stray, ...more] = subject.unnamed;
    if (stray === undefined) return { named, other, wanted: undefined, min, max };
    if (more.length > 0 || this.#options.order === 'free') {
      refuse('unsupported', stray.pointer, 'needs the opposite of this keyword beside others');
    }
    const { keys, demand } = stray;
    const before = [others({ without: keys })];
    if (demand !== undefined) before.push(others({ keys, demand: not(demand) }));
    const found = others({ keys, demand });
    return { named, other, wanted: { before: choice(...before), found }, min, max };
  }

  /** Properties that no schema names: for each set of patterns that their names can match. */
  #otherMembers(
    subject: Case,
    names: ReadonlySet<string>,
    only: Only,
    pointer: string,
  ): Expression[] {
    const { shapes } = subject;
    const patterns = [
      ...new Set(shapes.flatMap((shape) => shape.patterns.map(({ keys }) => keys))),
    ];
    if (patterns.length > MAX_KEY_PATTERNS) {
      const why = `has more than ${MAX_KEY_PATTERNS} patterns in patternProperties`;
      refuse('unsupported', pointer, why);
    }
    const allowed = subject.names.map((demand) =>
      this.#expander.namesThatMeet(this.#expander.goal([demand])),
    );
    if (only.keys !== undefined) allowed.push(only.keys);
    const byGoal = new Map<Goal, Expression[]>();
    for (let set = 0; set < 1 << patterns.length; set++) {
      const matched = patterns.filter((_, at) => (set & (1 << at)) !== 0);
      const unmatched = patterns.filter((keys) => !matched.includes(keys));
      const demands = shapes.flatMap((shape): Demand[] => {
        const own = shape.patterns.filter(({ keys }) => matched.includes(keys));
        if (own.length > 0) return own.map(({ demand }) => demand);
        return shape.rest === undefined ? [] : [shape.rest];
      });
      if (only.demand !== undefined) demands.push(only.demand);
      const goal = this.#expander.goal(demands);
      if (this.#expander.isEmpty(goal)) continue;
      const within = intersection(
        ...matched,
        ...allowed,
        ...(matched.length + allowed.length > 0 ? [] : [ANY_NAME]),
      );
      const excluded = [...names].filter((name) =>
        unmatched.every((keys) => !this.#expander.hasText(keys, name)),
      );
      const keys = difference(
        within,
        choice(
          ...unmatched,
          ...excluded.map(text),
          ...(only.without === undefined ? [] : [only.without]),
        ),
      );
      if (this.#expander.hasNoText(keys)) continue;
      byGoal.set(goal, [...(byGoal.get(goal) ?? []), keys]);
    }
    return [...byGoal].map(([goal, languages]) => {
      const keys = choice(...languages);
      const name =
        keys === ANY_NAME ? this.#anyString() : sequence(text('"'), encoded(keys), text('"'));
      return this.#pair(name, this.#value(goal));
    });
  }

  #members(members: Members, pointer: string): Expression {
    const { named, other, min, max } = members;
    const least = named.filter(({ isRequired }) => isRequired).length;
    const most = isImpossible(other) ? named.length : Number.POSITIVE_INFINITY;
    if (Math.max(min, least) > Math.min(max, most)) return IMPOSSIBLE;
    if (max === 0) return NOTHING;
    if (this.#options.order === 'free') return this.#unordered(members);
    const isCounted = max < most || min > Math.max(1, least);
    if (isCounted && members.wanted === undefined) {
      if (min - least > 1 && !isImpossible(other)) {
        // A name that is there twice would count twice, and no automaton remembers all names.
        refuse('unsupported', pointer, 'has a minProperties that unnamed properties must reach');
      }
      return this.#counted(members);
    }
    if (isCounted) {
      refuse('unsupported', pointer, 'counts properties beside the opposite of another keyword');
    }
    const inner = this.#ordered(members);
    return members.wanted !== undefined || min > 0 || least > 0
      ? this.#padded(inner)
      : this.#padded(optional(inner));
  }

  /** At least one property, in order, the others behind those that are named. */
  #ordered({ named, other, wanted }: Members): Expression {
    const following = named.map(({ pair, isRequired }) => {
      const all = sequence(this.#comma, pair);
      return isRequired ? all : optional(all);
    });
    const any = isImpossible(other) ? NOTHING : repeat(sequence(this.#comma, other), 0, undefined);
    const { before = IMPOSSIBLE, found = IMPOSSIBLE } = wanted ?? {};
    const others =
      wanted === undefined
        ? any
        : sequence(
            repeat(sequence(this.#comma, before), 0, undefined),
            repeat(sequence(this.#comma, found), 1, undefined),
          );
    /** What may follow those before `at`; equal ends are one expression. */
    const ends = new Map<number, Expression>();
    const after = (at: number): Expression => {
      if (at >= named.length) return others;
      const next = (Math.floor(at / BLOCK) + 1) * BLOCK;
      const end = ends.get(next) ?? after(next);
      ends.set(next, end);
      return { kind: 'sequence', parts: [...following.slice(at, next), end] };
    };
    const options: Expression[] = [];
    for (const [at, { pair, isRequired }] of named.entries()) {
      options.push({ kind: 'sequence', parts: [pair, after(at + 1)] });
      if (isRequired) return choice(...options);
    }
    const first =
      wanted === undefined
        ? sequence(other, any)
        : sequence(
            repeat(sequence(before, this.#comma), 0, undefined),
            found,
            repeat(sequence(this.#comma, found), 0, undefined),
          );
    return choice(...options, first);
  }

  /** In order, with as many properties as `min` and `max` say. */
  #counted({ named, other, min, max }: Members): Expression {
    const known = new Map<string, Expression>();
    const enough = Number.isFinite(max) ? max : min;
    /** What may follow those before `at`, when `count` of them were there. */
    const after = (at: number, count: number): Expression => {
      const key = `${at} ${count}`;
      const found = known.get(key);
      if (found !== undefined) return found;
      if (known.size > MAX_COUNTED) {
        refuse('too-large', pointerOf(this.#root), 'counts properties in too many ways');
      }
      const member = named[at];
      const comma = count === 0 ? NOTHING : this.#comma;
      let expression: Expression;
      if (member === undefined) {
        const most = Number.isFinite(max) ? max - count : undefined;
        const missing = Math.max(0, min - count);
        const others = isImpossible(other) ? (missing > 0 ? IMPOSSIBLE : NOTHING) : undefined;
        const list = (): Expression => {
          if (count > 0) return repeat(sequence(this.#comma, other), missing, most);
          return this.#listOf(other, missing, most ?? Number.POSITIVE_INFINITY);
        };
        expression = others ?? list();
      } else {
        const isFull = Number.isFinite(max) && count >= max;
        const next = Number.isFinite(max) ? count + 1 : Math.min(enough, count + 1);
        const taken = isFull ? IMPOSSIBLE : nested(comma, member.pair, after(at + 1, next));
        expression = member.isRequired ? taken : choice(taken, after(at + 1, count));
      }
      known.set(key, expression);
      return expression;
    };
    return this.#padded(after(0, 0));
  }

  /** Named properties in any order, each once, with the others anywhere between them. */
  #unordered({ named, other, min, max }: Members): Expression {
    const least = named.filter(({ isRequired }) => isRequired).length;
    if (named.length > MAX_FREE_PROPERTIES) {
      const why = `has an object of more than ${MAX_FREE_PROPERTIES} properties, in free order`;
      refuse('unsupported', pointerOf(this.#root), why);
    }
    if (min > Math.max(1, least) || Number.isFinite(max)) {
      refuse('unsupported', pointerOf(this.#root), 'counts properties, in free order');
    }
    const known = new Map<number, Expression>();
    const others = isImpossible(other)
      ? NOTHING
      : repeat(sequence(this.#comma, other), 0, undefined);
    /** What may follow when those of `used`, a set of bits, were there, and anything before. */
    const after = (used: number): Expression => {
      const found = known.get(used);
      if (found !== undefined) return found;
      const options = named.flatMap(({ pair }, at) => {
        const bit = 1 << at;
        return (used & bit) === 0 ? [nested(this.#comma, pair, after(used | bit))] : [];
      });
      const isWhole = named.every(({ isRequired }, at) => !isRequired || (used & (1 << at)) !== 0);
      const expression = nested(others, choice(...options, ...(isWhole ? [NOTHING] : [])));
      known.set(used, expression);
      return expression;
    };
    const first = named.map(({ pair }, at) => nested(pair, after(1 << at)));
    if (!isImpossible(other)) first.push(nested(other, after(0)));
    const inner = choice(...first);
    return min > 0 || least > 0 ? this.#padded(inner) : this.#padded(optional(inner));
  }
}

const ANY_STRING = sequence(text('"'), repeat(FREE_CHARACTER, 0, undefined), text('"'));

/** A sequence whose last part stays one expression, so that it is shared. */
function nested(...parts: readonly Expression[]): Expression {
  if (parts.some(isImpossible)) return IMPOSSIBLE;
  return { kind: 'sequence', parts };
}

function pointerOf(goal: Goal): string {
  return goal.demands[0]?.schema.pointer ?? '';
}

function hasType(value: Json, type: JsonType): boolean {
  return typeOf(value) === type;
}

/** Whether a case admits all values of a type. */
function isUnbound(subject: Case, type: JsonType): boolean {
  const { values, excluded } = subject;
  if (values !== undefined || excluded.some((value) => hasType(value, type))) return false;
  switch (type) {
    case 'null':
    case 'boolean':
      return true;
    case 'number':
      return (
        subject.isInteger === undefined &&
        subject.minimum === undefined &&
        subject.maximum === undefined &&
        subject.multipleOf === undefined &&
        subject.notMultipleOf.length === 0
      );
    case 'string':
      return (
        isFree(subject) && subject.minLength === 0 && subject.maxLength === Number.POSITIVE_INFINITY
      );
    case 'array': {
      const isLong = subject.maxItems === Number.POSITIVE_INFINITY && subject.minItems === 0;
      const isAny = subject.rows.length === 0 && subject.containing.length === 0;
      return isLong && isAny && subject.uniqueItems === undefined;
    }
    case 'object': {
      const isLong =
        subject.maxProperties === Number.POSITIVE_INFINITY && subject.minProperties === 0;
      const isAny = subject.shapes.length === 0 && subject.names.length === 0;
      return isLong && isAny && subject.required.size === 0 && subject.absent.size === 0;
    }
  }
}

/** All values of a case, where they are listed. */
function listedValues(subject: Case): readonly Json[] | undefined {
  if (subject.values !== undefined) return subject.values;
  const all = [...subject.types].map((type): readonly Json[] | undefined => {
    if (type === 'null') return [null];
    return type === 'boolean' ? [true, false] : undefined;
  });
  const flat = all.flatMap((values) => values ?? []);
  return all.includes(undefined)
    ? undefined
    : flat.filter((value) => !subject.excluded.includes(value));
}

function distinctValues(values: readonly (Json | undefined)[]): Json[] {
  const distinct: Json[] = [];
  for (const value of values) {
    if (value !== undefined && !distinct.some((other) => isEqual(other, value)))
      distinct.push(value);
  }
  return distinct;
}
