import type { CodePointRange, Expression } from '../expression.ts';
import { mergeRanges } from '../utf8.ts';
import {
  between,
  character,
  choice,
  difference,
  intersection,
  oneOf,
  repeat,
  sequence,
  text,
} from './build.ts';
import type { Case } from './cases.ts';

/**
 * Strings as JSON writes them. Where what is in a string is free, or only its length is bounded,
 * every escape of JSON is admitted. Where it is given (names, enum, const, pattern, format), each
 * character is written in one way: as it is, or by its short escape, or as \u00xx.
 */

const ANY_POINT: CodePointRange = [0, 0x10ffff];
const ANY_CHARACTER = character(ANY_POINT);
/** Of decoded strings. */
export const ANY_NAME = repeat(ANY_CHARACTER, 0, undefined);

const HEX = character([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);

/** Written by themselves: all but the quote, the backslash and controls. */
const PLAIN: readonly CodePointRange[] = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0x10ffff],
];

/** Any character of a string, in any of the ways in which JSON writes it. */
export const FREE_CHARACTER = choice(
  character(...PLAIN),
  sequence(
    text('\\'),
    choice(
      oneOf('"\\/bfnrt'),
      // Of four hexadecimal digits, no half of a surrogate pair by itself.
      sequence(
        text('u'),
        choice(
          sequence(
            character([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]),
            HEX,
            HEX,
            HEX,
          ),
          sequence(oneOf('dD'), between('0', '7'), HEX, HEX),
          sequence(
            oneOf('dD'),
            character([0x38, 0x39], [0x41, 0x42], [0x61, 0x62]),
            HEX,
            HEX,
            text('\\u'),
            oneOf('dD'),
            character([0x43, 0x46], [0x63, 0x66]),
            HEX,
            HEX,
          ),
        ),
      ),
    ),
  ),
);

const SHORT_ESCAPES: ReadonlyMap<number, string> = new Map([
  [0x08, '\\b'],
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0c, '\\f'],
  [0x0d, '\\r'],
  [0x22, '\\"'],
  [0x5c, '\\\\'],
]);

/** A string's text without its quotes, in the one way in which given characters are written. */
function escaped(value: string): string {
  return [...value].map(escapedCharacter).join('');
}

function escapedCharacter(value: string): string {
  const point = value.codePointAt(0) ?? 0;
  if (point >= 0x20) return SHORT_ESCAPES.get(point) ?? value;
  return SHORT_ESCAPES.get(point) ?? `\\u${point.toString(16).padStart(4, '0')}`;
}

/** A string that is given. */
export function quoted(value: string): Expression {
  return text(`"${escaped(value)}"`);
}

/** The language of the texts of strings, of the language of the strings themselves. */
export function encoded(language: Expression): Expression {
  const known = new Map<Expression, Expression>();
  const encode = (inner: Expression): Expression => {
    const found = known.get(inner) ?? encodeOne(inner, encode);
    known.set(inner, found);
    return found;
  };
  return encode(language);
}

function encodeOne(language: Expression, encode: (inner: Expression) => Expression): Expression {
  switch (language.kind) {
    case 'text':
      return text(escaped(language.text));
    case 'character':
      return encodedCharacter(language.ranges);
    case 'sequence':
      return { kind: 'sequence', parts: language.parts.map(encode) };
    case 'choice':
      return { kind: 'choice', options: language.options.map(encode) };
    case 'repeat':
      return { ...language, body: encode(language.body) };
    case 'intersection':
      return { kind: 'intersection', parts: language.parts.map(encode) };
    case 'difference':
      return difference(encode(language.body), encode(language.without));
    default:
      return language;
  }
}

function encodedCharacter(ranges: readonly CodePointRange[]): Expression {
  const plain = ranges.flatMap(([first, last]) =>
    PLAIN.map(([low, high]): CodePointRange => [Math.max(first, low), Math.min(last, high)]),
  );
  const isIn = (point: number) => ranges.some(([first, last]) => first <= point && point <= last);
  const special = [...Array(0x20).keys(), 0x22, 0x5c].filter(isIn);
  const escapes = special.map((point) => text(escapedCharacter(String.fromCodePoint(point))));
  const real = plain.filter(([first, last]) => first <= last);
  return choice(...(real.length > 0 ? [character(...real)] : []), ...escapes);
}

/** The language of a case's decoded strings. */
export function patternOf(subject: Case): Expression {
  const { minLength: min, maxLength: max } = subject;
  const positive = subject.patterns.filter(({ holds }) => holds).map(({ language }) => language);
  // Of the few characters that can occur at all: counting them takes as much smaller an automaton.
  const [first] = positive;
  const counted = first === undefined ? ANY_CHARACTER : character(...alphabetOf(first));
  const ofLength = repeat(counted, min, Number.isFinite(max) ? max : undefined);
  const negative = subject.patterns.filter(({ holds }) => !holds).map(({ language }) => language);
  const excluded = subject.excluded.filter((value) => typeof value === 'string').map(text);
  const fitting = positive.map((language) => withLength(language, min, max));
  const isBound = fitting.some((language) => language !== undefined);
  const parts = positive.map((language, at) => fitting[at] ?? language);
  const body = intersection(...parts, ...(isBound ? [] : [ofLength]));
  return difference(body, choice(...negative, ...excluded));
}

/** Whether a case says nothing of strings but how long they are. */
export function isFree(subject: Case): boolean {
  return subject.patterns.length === 0 && !subject.excluded.some((of) => typeof of === 'string');
}

/** Ranges of all characters in the texts of a language, and perhaps of others. */
function alphabetOf(language: Expression): readonly CodePointRange[] {
  const ranges: CodePointRange[] = [];
  const seen = new Set<Expression>();
  const collect = (inner: Expression): void => {
    if (seen.has(inner)) return;
    seen.add(inner);
    switch (inner.kind) {
      case 'text':
        for (const member of inner.text) {
          const point = member.codePointAt(0) ?? 0;
          ranges.push([point, point]);
        }
        break;
      case 'character':
        ranges.push(...inner.ranges);
        break;
      case 'sequence':
        inner.parts.forEach(collect);
        break;
      case 'choice':
        inner.options.forEach(collect);
        break;
      case 'repeat':
      case 'difference':
        collect(inner.body);
        break;
      default:
        ranges.push(ANY_POINT);
    }
  };
  collect(language);
  return mergeRanges(ranges);
}

/**
 * Those texts of a language that have from `min` to `max` characters, where it needs no automaton
 * to count them: all have, or it repeats one character.
 */
function withLength(language: Expression, min: number, max: number): Expression | undefined {
  const [least, most] = lengthsOf(language);
  if (least >= min && most <= max) return language;
  if (language.kind !== 'repeat' || language.body.kind !== 'character') return undefined;
  const [low, high] = [Math.max(min, least), Math.min(max, most)];
  return low > high
    ? undefined
    : repeat(language.body, low, Number.isFinite(high) ? high : undefined);
}

/** The least and the greatest number of characters; bounds where it is not known exactly. */
function lengthsOf(language: Expression): readonly [number, number] {
  switch (language.kind) {
    case 'text': {
      const { length } = [...language.text];
      return [length, length];
    }
    case 'character':
      return [1, 1];
    case 'sequence': {
      const all = language.parts.map(lengthsOf);
      return [sum(all.map(([min]) => min)), sum(all.map(([, max]) => max))];
    }
    case 'choice': {
      const all = language.options.map(lengthsOf);
      return [Math.min(...all.map(([min]) => min)), Math.max(...all.map(([, max]) => max))];
    }
    case 'repeat': {
      const [min, max] = lengthsOf(language.body);
      const times = language.max ?? Number.POSITIVE_INFINITY;
      return [min * language.min, max === 0 || times === 0 ? 0 : max * times];
    }
    case 'intersection': {
      const all = language.parts.map(lengthsOf);
      return [Math.max(...all.map(([min]) => min)), Math.min(...all.map(([, max]) => max))];
    }
    case 'difference':
      return lengthsOf(language.body);
    default:
      return [0, Number.POSITIVE_INFINITY];
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
