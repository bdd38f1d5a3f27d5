/**
 * Text of which each character says where it came from. A character that a request brought is
 * marked: a lone low surrogate is in its place, which no well-formed text has. So marked text has
 * the length of the text it stands for, and every place in it is the same place there. Space and
 * the characters that JSON and Python quote are never marked: they are trimmed and escaped as they
 * are, and no token is made of them alone.
 */

const FIRST_MARK = 0xdc00;
const NEVER_MARKED = /[\s\x85"'\\]/;
/** Beyond U+03FF: what the tokens of known models are written with. */
const FARTHER = '｜▁◁▷';

/** By UTF-16 unit: its mark, or itself where it has none. The reverse below. */
const MARKS = Uint16Array.from({ length: 0x10000 }, (_, unit) => unit);
const UNITS = MARKS.slice();
for (let code = 0; code < 0x400; code++) {
  // Controls and space leave their places to what is farther.
  const unit = code <= 0x20 ? FARTHER.charCodeAt(code) : code;
  if (Number.isNaN(unit) || NEVER_MARKED.test(String.fromCharCode(unit))) continue;
  MARKS[unit] = FIRST_MARK + code;
  UNITS[FIRST_MARK + code] = unit;
}

const HAS_LOW = /[\udc00-\udfff]/;
const isHigh = (unit: number) => unit >= 0xd800 && unit < 0xdc00;
const textOf = (units: Uint16Array<ArrayBuffer>) => Buffer.from(units.buffer).toString('utf16le');

/** Whether a character, if it comes of a request, is told apart. */
export const canBeMarked = (character: string): boolean => {
  const unit = character.charCodeAt(0);
  return MARKS[unit] !== unit;
};

/** Text that came of a request. What is not well-formed in it becomes U+FFFD. */
export function mark(text: string): string {
  const given = text.toWellFormed();
  const units = new Uint16Array(given.length);
  for (let at = 0; at < given.length; at++) units[at] = MARKS[given.charCodeAt(at)]!;
  return textOf(units);
}

/** The text that marked text stands for. Any other well-formed text is itself. */
export function unmark(text: string): string {
  if (!HAS_LOW.test(text)) return text;
  const units = new Uint16Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    // The other half of a pair is no mark.
    const isPaired = at > 0 && isHigh(text.charCodeAt(at - 1));
    units[at] = isPaired ? unit : UNITS[unit]!;
  }
  return textOf(units);
}

/** Whether a character, or the half of one, is a mark. */
export const isMark = (character: string): boolean =>
  character.length === 1 && HAS_LOW.test(character);

/**
 * What `change` makes of a text, marked where it was. undefined where the result is not as long:
 * then nothing says which of its characters came from where.
 */
export function changeMarked(text: string, change: (text: string) => string): string | undefined {
  const before = unmark(text);
  if (before === text) return change(text);
  const after = change(before);
  if (after.length !== text.length) return undefined;
  let result = '';
  for (let at = 0; at < text.length; at++) {
    result += before[at] === text[at] ? after[at]! : mark(after[at]!);
  }
  return result;
}

/** As String.split, whatever is marked. */
export function splitMarked(text: string, separator: string): string[] {
  const all = unmark(text);
  const by = unmark(separator);
  if (all === text) return all.split(by);
  let at = 0;
  return all.split(by).map((part) => {
    const own = text.slice(at, at + part.length);
    at += part.length + by.length;
    return own;
  });
}

/** Text with its marks, apart from text without. */
export class MarkedText {
  readonly marked: string;

  constructor(marked: string) {
    this.marked = marked;
  }

  /** The text without its marks. */
  get plain(): string {
    return unmark(this.marked);
  }
}
