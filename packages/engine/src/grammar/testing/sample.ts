import { InvariantError } from '@bridgekeeper/bridge';
import { CONTROL_TOKEN_BYTE } from '@bridgekeeper/device/threads';
import type { Expression, Grammar } from '../expression.ts';
import { LAST_TOKEN_ID, type Language, Languages, tokenSymbol } from '../languages.ts';

/** Random texts of a grammar. Control tokens are their bytes, as in a vocabulary. */
export interface SampleOptions {
  /** At least 0, less than 1. */
  readonly random: () => number;
  /** About how many expressions are expanded before the shortest way to the end is taken. */
  readonly effort?: number;
}

/** The bytes of a random text of the grammar. Throws InvariantError where it has none. */
export function sampleBytes(grammar: Grammar, options: SampleOptions): Uint8Array {
  const sampler = new Sampler(grammar, options);
  const { thinking } = grammar;
  if (thinking !== undefined) {
    if (thinking.begin !== undefined) sampler.write(thinking.begin);
    sampler.write(thinking.body);
    sampler.write(thinking.end);
  }
  sampler.write(grammar.root);
  return Uint8Array.from(sampler.symbols.flatMap(bytesOf));
}

/** The bytes of a code point, or of a control token (-1 - id). */
function bytesOf(symbol: number): number[] {
  if (symbol >= 0) return [...new TextEncoder().encode(String.fromCodePoint(symbol))];
  const id = tokenSymbol(symbol);
  return [CONTROL_TOKEN_BYTE, (id >> 14) & 127, (id >> 7) & 127, id & 127];
}

/** More repetitions than this beyond the least are not tried. */
const MORE_REPETITIONS = 5;
const DEFAULT_EFFORT = 60;

class Sampler {
  readonly symbols: number[] = [];
  readonly #languages: Languages;
  readonly #rules: ReadonlyMap<string, Expression>;
  readonly #random: () => number;
  /** How many rules deep a text of a rule must go at least. */
  readonly #depths = new Map<string, number>();
  #effort: number;

  constructor(grammar: Grammar, { random, effort = DEFAULT_EFFORT }: SampleOptions) {
    this.#languages = new Languages(grammar);
    this.#rules = grammar.rules;
    this.#random = random;
    this.#effort = effort;
    for (let isChanged = true; isChanged; ) {
      isChanged = false;
      for (const [name, body] of grammar.rules) {
        const depth = 1 + this.#depth(body);
        if (depth >= (this.#depths.get(name) ?? Number.POSITIVE_INFINITY)) continue;
        this.#depths.set(name, depth);
        isChanged = true;
      }
    }
  }

  /** How many rules deep a text must go at least; infinite where there is none. */
  #depth(expression: Expression): number {
    switch (expression.kind) {
      case 'sequence':
        return Math.max(0, ...expression.parts.map((part) => this.#depth(part)));
      case 'choice':
        return Math.min(...expression.options.map((option) => this.#depth(option)));
      case 'repeat':
        return expression.min === 0 ? 0 : this.#depth(expression.body);
      case 'rule':
        return this.#depths.get(expression.name) ?? Number.POSITIVE_INFINITY;
      default:
        return this.#languages.isEmpty(this.#languages.of(expression))
          ? Number.POSITIVE_INFINITY
          : 0;
    }
  }

  write(expression: Expression): void {
    this.#effort -= 1;
    switch (expression.kind) {
      case 'sequence':
        for (const part of expression.parts) this.write(part);
        break;
      case 'choice':
        this.write(this.#option(expression.options));
        break;
      case 'repeat': {
        const { body, min, max = Number.POSITIVE_INFINITY } = expression;
        const isPossible = this.#effort > 0 && this.#depth(body) < Number.POSITIVE_INFINITY;
        const more = isPossible ? this.#below(Math.min(max - min, MORE_REPETITIONS) + 1) : 0;
        for (let count = 0; count < min + more; count++) this.write(body);
        break;
      }
      case 'rule':
        this.write(this.#rules.get(expression.name) ?? expression);
        break;
      default:
        this.#walk(this.#languages.of(expression));
    }
  }

  #option(options: readonly Expression[]): Expression {
    const depths = options.map((option) => this.#depth(option));
    const least = Math.min(...depths);
    const most = this.#effort > 0 ? Number.MAX_VALUE : least;
    const possible = options.filter((_, at) => (depths[at] ?? 0) <= most);
    return this.#pick(possible);
  }

  /** A text of a language without rules, symbol by symbol. */
  #walk(start: Language): void {
    const languages = this.#languages;
    let language = start;
    for (let length = 0; ; length++) {
      const isLong = length > MORE_REPETITIONS;
      if (languages.isNullable(language) && (isLong || this.#below(4) === 0)) return;
      const ranges = languages.beginnings(language, tokenSymbol(LAST_TOKEN_ID), 0x10ffff);
      if (ranges.length === 0 && languages.isNullable(language)) return;
      const symbol = isLong
        ? this.#towardsEnd(language)
        : this.#symbol(this.#pick(ranges), ranges.length);
      this.symbols.push(symbol);
      language = languages.derivative(language, symbol);
    }
  }

  #symbol([first, last]: readonly [number, number], ranges: number): number {
    // Of free text, where any symbol may come, mostly letters: rare symbols hide the tags' own.
    if (ranges > 1 && first <= 0x61 && last >= 0x7a) return 0x61 + this.#below(26);
    return first + this.#below(Math.min(last - first, 1 + this.#below(0x2000)) + 1);
  }

  /** The first symbol of one of the shortest texts. */
  #towardsEnd(start: Language): number {
    const languages = this.#languages;
    const firstSymbols = new Map<Language, number | undefined>([[start, undefined]]);
    for (const [language, first] of firstSymbols) {
      if (languages.isNullable(language) && first !== undefined) return first;
      for (const [symbol] of languages.beginnings(language, tokenSymbol(LAST_TOKEN_ID), 0x10ffff)) {
        const next = languages.derivative(language, symbol);
        if (!firstSymbols.has(next)) firstSymbols.set(next, first ?? symbol);
      }
    }
    return this.#pick([]);
  }

  #pick<T>(items: readonly T[]): T {
    const item = items[this.#below(items.length)];
    if (item === undefined) throw new InvariantError('a sample of a language that has no texts');
    return item;
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count);
  }
}
