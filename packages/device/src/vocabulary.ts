import {
  CONTROL_TOKEN_BYTE,
  FIRST_NO_TEXT_BYTE,
  MAX_TOKEN_BYTES,
  TOKEN_SPAN_SHIFT,
} from './grammar-layout.ts';

/** What the tokens of a model are in bytes, as grammars step through them. Crosses threads whole. */
export interface Vocabulary {
  /** u32 [vocab]: see TOKEN_SPAN_SHIFT. */
  readonly spans: Uint32Array;
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
  const bytes = new Uint32Array(new SharedArrayBuffer(Math.max(1, words) * 4));
  const flat = new Uint8Array(bytes.buffer);
  let word = 0;
  texts.forEach((text, id) => {
    spans[id] = (word << TOKEN_SPAN_SHIFT) | text.length;
    flat.set(text, word * 4);
    word += wordsOf(text);
  });
  return { spans, bytes };
}

/** What stands for a control token: an id below 2^21 in bytes of seven bits, the highest first. */
export function controlBytes(id: number): Uint8Array {
  return Uint8Array.of(CONTROL_TOKEN_BYTE, (id >> 14) & 127, (id >> 7) & 127, id & 127);
}
