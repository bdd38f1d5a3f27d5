/**
 * Strings as Python has them: sequences of code points, with Python's idea of space and lines.
 * JavaScript counts UTF-16 units; the two agree where no surrogates are.
 */
import { isMark, unmark } from '../marks.ts';

/** What str.isspace and the regular expression \s of Python match, as a class of a RegExp. */
export const PYTHON_SPACE =
  '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]';

/** What str.splitlines takes for the end of a line, beside \r\n. */
const LINE_BREAK = '[\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029]';

const SPACE = new RegExp(PYTHON_SPACE);
const HIGH_SURROGATE = /[\ud800-\udbff]/;
const LINE_END = new RegExp(`\\r\\n|${LINE_BREAK}`, 'g');

export function isSpace(character: string): boolean {
  return SPACE.test(character);
}

/** Whether a character is stripped. */
function stripsOf(chars: string | undefined): (character: string) => boolean {
  if (chars === undefined) return isSpace;
  const all = unmark(chars);
  return (character) => all.includes(unmark(character));
}

/** `chars` undefined strips space. Not by a regular expression, which is quadratic at the end. */
export function trimStart(text: string, chars?: string): string {
  const strips = stripsOf(chars);
  let at = 0;
  while (at < text.length) {
    const character = String.fromCodePoint(text.codePointAt(at)!);
    if (!strips(character)) break;
    at += character.length;
  }
  return text.slice(at);
}

export function trimEnd(text: string, chars?: string): string {
  const strips = stripsOf(chars);
  let end = text.length;
  while (end > 0) {
    const before = text.codePointAt(end - 2);
    const isPair = end >= 2 && before! > 0xffff;
    const size = isPair ? 2 : 1;
    if (!strips(text.slice(end - size, end))) break;
    end -= size;
  }
  return text.slice(0, end);
}

export function characters(text: string): string[] {
  return Array.from(text);
}

export function lengthOf(text: string): number {
  if (!HIGH_SURROGATE.test(text)) return text.length;
  let length = 0;
  for (let unit = 0; unit < text.length; unit += sizeAt(text, unit)) length += 1;
  return length;
}

/** How many UTF-16 units the character there has. */
function sizeAt(text: string, unit: number): 1 | 2 {
  return text.codePointAt(unit)! > 0xffff ? 2 : 1;
}

/** The place of a character in UTF-16 units, from its place in code points. */
function unitOf(text: string, place: number): number {
  if (!HIGH_SURROGATE.test(text)) return place;
  let unit = 0;
  for (let left = place; left > 0 && unit < text.length; left -= 1) unit += sizeAt(text, unit);
  return unit;
}

export function characterAt(text: string, index: number): string | undefined {
  const length = lengthOf(text);
  const at = index < 0 ? index + length : index;
  if (at < 0 || at >= length) return undefined;
  const unit = unitOf(text, at);
  return text.slice(unit, unit + sizeAt(text, unit));
}

/** Code points `from` to `to`, both within the string. */
export function substring(text: string, from: number, to: number): string {
  return text.slice(unitOf(text, from), unitOf(text, to));
}

/** The place of a character in code points from its place in UTF-16 units. */
export function placeOf(text: string, unit: number): number {
  return unit < 0 ? unit : lengthOf(text.slice(0, unit));
}

/** Orders by code points, as Python does; UTF-16 units order astral characters otherwise. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    if (a.charCodeAt(at) === b.charCodeAt(at)) continue;
    const left = a.codePointAt(at)!;
    const right = b.codePointAt(at)!;
    // In the middle of a pair, codePointAt gives the low surrogate: both differ there alike.
    return left - right;
  }
  return a.length - b.length;
}

/** str.splitlines. */
export function splitLines(text: string, keepEnds = false): string[] {
  const lines: string[] = [];
  let from = 0;
  for (const end of text.matchAll(LINE_END)) {
    const after = end.index + end[0].length;
    lines.push(text.slice(from, keepEnds ? after : end.index));
    from = after;
  }
  if (from < text.length) lines.push(text.slice(from));
  return lines;
}

/** The entities of MarkupSafe. */
const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&#39;',
  '"': '&#34;',
};

export function escapeHtml(text: string): string {
  return text.replace(/[&<>'"]/g, (character) => ENTITIES[character]!);
}

const NOT_PRINTABLE = /[\p{C}\p{Z}]/u;

/** str.isprintable of one character. */
export function isPrintable(character: string): boolean {
  return character === ' ' || !NOT_PRINTABLE.test(character);
}

const NAMED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** repr of a str. */
export function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inner = text.replace(/[^ !#-&(-[\]-~]/gu, (character) => {
    if (character === mark || character === '\\') return `\\${character}`;
    if (NAMED[character] !== undefined) return NAMED[character];
    if (isMark(character)) return character;
    if (isPrintable(character)) return character;
    const code = character.codePointAt(0)!;
    const hex = code.toString(16);
    if (code <= 0xff) return `\\x${hex.padStart(2, '0')}`;
    return code <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
  });
  return mark + inner + mark;
}
