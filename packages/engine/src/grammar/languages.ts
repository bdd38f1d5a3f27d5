import { InvariantError } from '@bridgekeeper/bridge/threads';
import type { Expression, Grammar, Tag } from './expression.ts';

/**
 * What grammars mean, by Brzozowski's derivatives: the derivative of a language by a symbol is what
 * may follow that symbol. Slow, and short enough to be believed; the reference for everything that
 * compiles or steps grammars.
 *
 * A symbol is a code point, or a control token's id as -1 - id. Nodes are interned: equal nodes are
 * one object, so that what is known about one is known about all of them.
 */
export type Language =
  | (Interned & { readonly kind: 'epsilon' })
  /** One symbol in one of the ranges, which are in order; none: the empty language. */
  | (Interned & { readonly kind: 'symbol'; readonly ranges: readonly Range[] })
  | (Interned & { readonly kind: 'sequence'; readonly head: Language; readonly tail: Language })
  | (Interned & { readonly kind: 'choice'; readonly options: readonly Language[] })
  | (Interned & {
      readonly kind: 'repeat';
      readonly body: Language;
      readonly min: number;
      readonly max: number;
    })
  | (Interned & { readonly kind: 'rule'; readonly name: string })
  | (Interned & { readonly kind: 'intersection'; readonly parts: readonly Language[] })
  | (Interned & {
      readonly kind: 'difference';
      readonly body: Language;
      readonly without: Language;
    });

interface Interned {
  readonly id: number;
  /** Derivatives that were computed, by symbol. */
  readonly derivatives: Map<number, Language>;
}

type Range = readonly [first: number, last: number];

type Shape = Language extends infer T
  ? T extends Interned
    ? Omit<T, keyof Interned>
    : never
  : never;

const LAST_CODE_POINT = 0x10ffff;
/** Half of pairs in UTF-16; in no text. */
const SURROGATES: Range = [0xd800, 0xdfff];
export const LAST_TOKEN_ID = (1 << 21) - 1;
const EVERY_SYMBOL: readonly Range[] = [[-1 - LAST_TOKEN_ID, LAST_CODE_POINT]];

/** The symbol of a control token. */
export function tokenSymbol(id: number): number {
  return -1 - id;
}

/** The languages of one grammar. */
export class Languages {
  readonly #interned = new Map<string, Language>();
  readonly #rules: ReadonlyMap<string, Expression>;
  readonly #bodies = new Map<string, Language>();
  /** Rules that admit the empty text, and rules that admit any text at all. */
  readonly #nullableRules = new Set<string>();
  readonly #productiveRules = new Set<string>();
  /** Of intersections and differences, once known. */
  readonly #emptiness = new Map<Language, boolean>();

  readonly epsilon = this.#intern({ kind: 'epsilon' }, 'e');
  readonly empty = this.#intern({ kind: 'symbol', ranges: [] }, 's');

  readonly #maxSearched: number;

  /**
   * Whether an intersection or a difference is empty is found by trying all of its texts; after
   * `maxSearched` languages it counts as not empty. Throws InvariantError where a rule is missing,
   * or an expression is none.
   */
  constructor(grammar: Pick<Grammar, 'rules'>, maxSearched = Number.POSITIVE_INFINITY) {
    this.#maxSearched = maxSearched;
    this.#rules = grammar.rules;
    for (const [name, body] of grammar.rules) this.#bodies.set(name, this.of(body));
    this.#close(this.#nullableRules, (body) => this.isNullable(body));
    this.#close(this.#productiveRules, (body) => !this.isEmpty(body));
  }

  /** Adds rules to `known` of which `holds` says yes, until there are no more. */
  #close(known: Set<string>, holds: (body: Language) => boolean): void {
    for (let before = -1; before < known.size; ) {
      before = known.size;
      for (const [name, body] of this.#bodies) if (holds(body)) known.add(name);
    }
  }

  of(expression: Expression): Language {
    switch (expression.kind) {
      case 'text':
        return this.#ofText(expression.text);
      case 'character':
        return this.#symbols(expression.ranges);
      case 'sequence':
        return this.sequence(expression.parts.map((part) => this.of(part)));
      case 'choice':
        return this.#choice(expression.options.map((option) => this.of(option)));
      case 'repeat': {
        const { body, min, max = Number.POSITIVE_INFINITY } = expression;
        if (min < 0 || max < min) throw new InvariantError(`a repeat from ${min} to ${max}`);
        return this.#repeat(this.of(body), min, max);
      }
      case 'rule':
        if (!this.#rules.has(expression.name)) {
          throw new InvariantError(`no rule is called ${expression.name}`);
        }
        return this.#intern({ kind: 'rule', name: expression.name }, `r${expression.name}`);
      case 'token':
        return this.#symbols([[tokenSymbol(expression.id), tokenSymbol(expression.id)]]);
      case 'intersection':
        return this.#intersection(expression.parts.map((part) => this.#ofPlain(part)));
      case 'difference':
        return this.#difference(this.#ofPlain(expression.body), this.#ofPlain(expression.without));
      case 'free':
        return this.#free(expression.tags);
    }
  }

  /** With the bodies of rules in their place: below intersections and differences. */
  #ofPlain(expression: Expression, within: readonly string[] = []): Language {
    const of = (inner: Expression) => this.#ofPlain(inner, within);
    switch (expression.kind) {
      case 'sequence':
        return this.sequence(expression.parts.map(of));
      case 'choice':
        return this.#choice(expression.options.map(of));
      case 'repeat': {
        const { body, min, max = Number.POSITIVE_INFINITY } = expression;
        return this.#repeat(of(body), min, max);
      }
      case 'rule': {
        const { name } = expression;
        const body = this.#rules.get(name);
        if (body === undefined || within.includes(name)) {
          throw new InvariantError(`rule ${name} recurs within an intersection or difference`);
        }
        return this.#ofPlain(body, [...within, name]);
      }
      case 'intersection':
        return this.#intersection(expression.parts.map(of));
      case 'difference':
        return this.#difference(of(expression.body), of(expression.without));
      default:
        return this.of(expression);
    }
  }

  #ofText(text: string): Language {
    const symbols = [...text].map((character) => {
      const point = character.codePointAt(0) ?? 0;
      if (!character.isWellFormed()) throw new InvariantError('half a surrogate pair in a text');
      return this.#symbols([[point, point]]);
    });
    return this.sequence(symbols);
  }

  #free(tags: readonly Tag[]): Language {
    const any = this.#repeat(this.#symbols(EVERY_SYMBOL), 0, Number.POSITIVE_INFINITY);
    const tagged = tags.map((tag) => this.sequence([any, this.of(tag), any]));
    return this.#difference(any, this.#choice(tagged));
  }

  #intern(shape: Shape, key: string): Language {
    const found = this.#interned.get(key);
    if (found !== undefined) return found;
    const language = { ...shape, id: this.#interned.size, derivatives: new Map() } as Language;
    this.#interned.set(key, language);
    return language;
  }

  #symbols(ranges: readonly Range[]): Language {
    const sorted = ranges
      .flatMap(([first, last]): Range[] => {
        const [low, high] = SURROGATES;
        if (last < low || first > high) return [[first, last]];
        return [
          [first, low - 1],
          [high + 1, last],
        ];
      })
      .filter(([first, last]) => first <= last)
      .sort((a, b) => a[0] - b[0]);
    return this.#intern({ kind: 'symbol', ranges: sorted }, `s${sorted.join(' ')}`);
  }

  sequence(parts: readonly Language[]): Language {
    return parts.reduceRight((tail, part) => this.#pair(part, tail), this.epsilon);
  }

  #pair(head: Language, tail: Language): Language {
    if (head === this.empty || tail === this.empty) return this.empty;
    if (head === this.epsilon) return tail;
    if (tail === this.epsilon) return head;
    if (head.kind === 'sequence') return this.#pair(head.head, this.#pair(head.tail, tail));
    return this.#intern({ kind: 'sequence', head, tail }, `q${head.id} ${tail.id}`);
  }

  #choice(options: readonly Language[]): Language {
    const flat = options.flatMap((option) =>
      option.kind === 'choice' ? option.options : [option],
    );
    const distinct = inOrder(flat).filter((option) => option !== this.empty);
    const [only = this.empty] = distinct;
    if (distinct.length < 2) return only;
    return this.#intern({ kind: 'choice', options: distinct }, `c${ids(distinct)}`);
  }

  #repeat(body: Language, min: number, max: number): Language {
    if (max === 0 || body === this.epsilon) return this.epsilon;
    if (body === this.empty) return min === 0 ? this.epsilon : this.empty;
    if (min === 1 && max === 1) return body;
    return this.#intern({ kind: 'repeat', body, min, max }, `p${body.id} ${min} ${max}`);
  }

  #intersection(parts: readonly Language[]): Language {
    const distinct = inOrder(parts);
    const [only] = distinct;
    if (only !== undefined && distinct.length === 1) return only;
    if (distinct.includes(this.empty)) return this.empty;
    return this.#intern({ kind: 'intersection', parts: distinct }, `i${ids(distinct)}`);
  }

  #difference(body: Language, without: Language): Language {
    if (without === this.empty || body === this.empty) return body;
    if (without === body) return this.empty;
    return this.#intern({ kind: 'difference', body, without }, `d${body.id} ${without.id}`);
  }

  /** Whether the empty text is in the language. */
  isNullable(language: Language): boolean {
    switch (language.kind) {
      case 'epsilon':
        return true;
      case 'symbol':
        return false;
      case 'sequence':
        return this.isNullable(language.head) && this.isNullable(language.tail);
      case 'choice':
        return language.options.some((option) => this.isNullable(option));
      case 'repeat':
        return language.min === 0 || this.isNullable(language.body);
      case 'rule':
        return this.#nullableRules.has(language.name);
      case 'intersection':
        return language.parts.every((part) => this.isNullable(part));
      case 'difference':
        return this.isNullable(language.body) && !this.isNullable(language.without);
    }
  }

  /** Whether no text is in the language. */
  isEmpty(language: Language): boolean {
    switch (language.kind) {
      case 'epsilon':
        return false;
      case 'symbol':
        return language.ranges.length === 0;
      case 'sequence':
        return this.isEmpty(language.head) || this.isEmpty(language.tail);
      case 'choice':
        return language.options.every((option) => this.isEmpty(option));
      case 'repeat':
        return language.min > 0 && this.isEmpty(language.body);
      case 'rule':
        return !this.#productiveRules.has(language.name);
      case 'intersection':
      case 'difference':
        return this.#emptiness.get(language) ?? this.#searchesInVain(language);
    }
  }

  /** Whether no text of `start`, which has no rules, is found by trying all of them. */
  #searchesInVain(start: Language): boolean {
    const cameFrom = new Map<Language, Language | undefined>([[start, undefined]]);
    for (const language of cameFrom.keys()) {
      if (this.isNullable(language)) {
        let at: Language | undefined = language;
        for (; at !== undefined; at = cameFrom.get(at)) this.#emptiness.set(at, false);
        return false;
      }
      if (cameFrom.size > this.#maxSearched) return false;
      for (const symbol of this.#cuts(language)) {
        const next = this.derivative(language, symbol);
        if (next !== this.empty && !cameFrom.has(next)) cameFrom.set(next, language);
      }
    }
    for (const language of cameFrom.keys()) this.#emptiness.set(language, true);
    return true;
  }

  /** What may follow `symbol`. Throws InvariantError where rules recur on the left. */
  derivative(language: Language, symbol: number): Language {
    return this.#derivative(language, symbol, []);
  }

  #derivative(language: Language, symbol: number, within: readonly string[]): Language {
    const known = language.derivatives.get(symbol);
    if (known !== undefined) return known;
    const derivative = this.#derive(language, symbol, within);
    language.derivatives.set(symbol, derivative);
    return derivative;
  }

  #derive(language: Language, symbol: number, within: readonly string[]): Language {
    const by = (inner: Language) => this.#derivative(inner, symbol, within);
    switch (language.kind) {
      case 'epsilon':
        return this.empty;
      case 'symbol': {
        const isIn = language.ranges.some(([first, last]) => first <= symbol && symbol <= last);
        return isIn ? this.epsilon : this.empty;
      }
      case 'sequence': {
        const { head, tail } = language;
        const first = this.#pair(by(head), tail);
        return this.isNullable(head) ? this.#choice([first, by(tail)]) : first;
      }
      case 'choice':
        return this.#choice(language.options.map(by));
      case 'repeat': {
        const { body, min, max } = language;
        return this.#pair(by(body), this.#repeat(body, Math.max(0, min - 1), max - 1));
      }
      case 'rule': {
        const { name } = language;
        if (within.includes(name)) throw new InvariantError(`rule ${name} recurs on the left`);
        return this.#derivative(this.#body(name), symbol, [...within, name]);
      }
      case 'intersection':
        return this.#intersection(language.parts.map(by));
      case 'difference':
        return this.#difference(by(language.body), by(language.without));
    }
  }

  #body(name: string): Language {
    return this.#bodies.get(name) ?? this.empty;
  }

  /**
   * Ranges of symbols of `[first, last]`, each with symbols that the language treats alike, of
   * which some text of the language may begin.
   */
  beginnings(language: Language, first: number, last: number): Range[] {
    const cuts = this.#cuts(language).filter((cut) => first < cut && cut <= last);
    return [first, ...cuts]
      .map((low, at): Range => [low, (cuts[at] ?? last + 1) - 1])
      .filter(([low]) => !this.isEmpty(this.derivative(language, low)));
  }

  /** Where, in order, symbols begin that the language may treat unlike the symbol before. */
  #cuts(language: Language): readonly number[] {
    const cuts = new Set<number>();
    this.#collectCuts(language, cuts, new Set());
    return [...cuts].sort((a, b) => a - b);
  }

  #collectCuts(language: Language, cuts: Set<number>, seen: Set<Language>): void {
    if (seen.has(language)) return;
    seen.add(language);
    const collect = (inner: Language) => this.#collectCuts(inner, cuts, seen);
    switch (language.kind) {
      case 'epsilon':
        break;
      case 'symbol':
        for (const [first, last] of language.ranges) cuts.add(first).add(last + 1);
        break;
      case 'sequence':
        collect(language.head);
        if (this.isNullable(language.head)) collect(language.tail);
        break;
      case 'choice':
        language.options.forEach(collect);
        break;
      case 'repeat':
        collect(language.body);
        break;
      case 'rule':
        collect(this.#body(language.name));
        break;
      case 'intersection':
        language.parts.forEach(collect);
        break;
      case 'difference':
        collect(language.body);
        collect(language.without);
    }
  }
}

function inOrder(languages: readonly Language[]): Language[] {
  return [...new Set(languages)].sort((a, b) => a.id - b.id);
}

function ids(languages: readonly Language[]): string {
  return languages.map((language) => language.id).join(' ');
}
