import {
  CONTROL_TOKEN_BYTE,
  FIRST_NO_TEXT_BYTE,
  GROUP_OF_BYTE,
  MAX_TOKEN_BYTES,
  NO_GROUP,
  TOKEN_GROUPS_SHIFT,
  TOKEN_SPAN_SHIFT,
  WIDE_CHARACTER_FIELDS,
  WIDE_CHARACTERS,
  WIDE_GROUP,
} from './grammar-layout.ts';

/** What the tokens of a model are in bytes, as grammars step through them. It may cross threads. */
export interface Vocabulary {
  /** u32 [vocab]: see TOKEN_SPAN_SHIFT. */
  readonly spans: Uint32Array;
  /** u32 [vocab]: see TOKEN_GROUPS_SHIFT. */
  readonly heads: Uint32Array;
  /** The tokens' bytes, each token's from a whole word on. */
  readonly bytes: Uint32Array;
}

/**
 * `textOf` gives a token's bytes, which need not be whole characters; null and none: it stands for
 * no text, so no grammar admits it. Control tokens have bytes that occur in no text instead, so
 * that only their ids are them. What is longer than MAX_TOKEN_BYTES is never admitted. In shared
 * memory.
 */
export function buildVocabulary(
  size: number,
  textOf: (id: number) => Uint8Array | null,
  controlIds: ReadonlySet<number>,
): Vocabulary {
  const texts = Array.from({ length: size }, (_, id) => {
    if (controlIds.has(id)) return controlBytes(id);
    const text = textOf(id);
    const isUsable =
      text !== null &&
      text.length <= MAX_TOKEN_BYTES &&
      !text.some((byte) => byte >= FIRST_NO_TEXT_BYTE);
    return isUsable ? text : new Uint8Array(0);
  });
  const wordsOf = (text: Uint8Array) => Math.ceil(text.length / 4);
  const words = texts.reduce((sum, text) => sum + wordsOf(text), 0);
  const spans = new Uint32Array(new SharedArrayBuffer(size * 4));
  const heads = new Uint32Array(new SharedArrayBuffer(size * 4));
  const bytes = new Uint32Array(new SharedArrayBuffer(Math.max(1, words) * 4));
  const flat = new Uint8Array(bytes.buffer);
  let word = 0;
  texts.forEach((text, id) => {
    spans[id] = (word << TOKEN_SPAN_SHIFT) | text.length;
    heads[id] = (text[0] ?? 0) | (groupsOf(text) << TOKEN_GROUPS_SHIFT);
    flat.set(text, word * 4);
    word += wordsOf(text);
  });
  return { spans, heads, bytes };
}

/** What stands for a control token: an id below 2^21 in bytes of seven bits, the highest first. */
export function controlBytes(id: number): Uint8Array {
  return Uint8Array.of(CONTROL_TOKEN_BYTE, (id >> 14) & 127, (id >> 7) & 127, id & 127);
}

/** A bit for each group of characters in a text. */
function groupsOf(text: Uint8Array): number {
  if (text.length === 0) return 1 << NO_GROUP;
  let groups = 0;
  for (let at = 0; at < text.length; ) {
    const byte = text[at]!;
    const length = byte < 0x80 ? 1 : wideLength(text, at);
    if (length === 0) return 1 << NO_GROUP;
    groups |= 1 << (byte < 0x80 ? GROUP_OF_BYTE[byte]! : WIDE_GROUP);
    at += length;
  }
  return groups;
}

/** Bytes of the character beyond ASCII that begins at `at`; 0: none does. */
function wideLength(text: Uint8Array, at: number): number {
  const isIn = (index: number, first: number, last: number) =>
    text[index]! >= first && text[index]! <= last;
  for (let line = 0; line < WIDE_CHARACTERS.length; line += WIDE_CHARACTER_FIELDS) {
    const [leadFirst, leadLast, first, last, more] = WIDE_CHARACTERS.slice(line) as Line;
    if (!isIn(at, leadFirst, leadLast) || !isIn(at + 1, first, last)) continue;
    const rest = Array.from({ length: more }, (_, index) => at + 2 + index);
    return rest.every((index) => isIn(index, 0x80, 0xbf)) ? 2 + more : 0;
  }
  return 0;
}

type Line = [leadFirst: number, leadLast: number, first: number, last: number, more: number];
