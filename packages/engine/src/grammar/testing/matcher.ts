import { CONTROL_TOKEN_BYTE } from '@bridgekeeper/device/threads';
import type { Grammar } from '../expression.ts';
import { LAST_TOKEN_ID, type Language, Languages, tokenSymbol } from '../languages.ts';

/**
 * A place in a text that a grammar admits so far. Bytes are those of the vocabulary: UTF-8, and for
 * a control token CONTROL_TOKEN_BYTE and its id in three bytes of seven bits.
 */
export interface Place {
  /** The text may end here. */
  readonly canEnd: boolean;
  /** There is a byte that may come next, and a text of the grammar that goes on with it. */
  readonly canContinue: boolean;
  /** The place after `byte`; undefined where no text of the grammar goes on with it. */
  after(byte: number): Place | undefined;
}

/**
 * The place before the first byte; `forced`: where the thinking budget is used up, and only the end
 * of thinking may come.
 */
export function startOf(grammar: Grammar, from: 'start' | 'forced' = 'start'): Place {
  const languages = new Languages(grammar);
  const { thinking } = grammar;
  const parts = [languages.of(grammar.root)];
  if (thinking !== undefined) parts.unshift(languages.of(thinking.end));
  if (thinking !== undefined && from === 'start') {
    parts.unshift(languages.of(thinking.body));
    if (thinking.begin !== undefined) parts.unshift(languages.of(thinking.begin));
  }
  return placeIn(languages, languages.sequence(parts), []);
}

/** The place after all of `bytes`; undefined where one of them is refused. */
export function placeAfter(place: Place, bytes: Iterable<number>): Place | undefined {
  let at: Place | undefined = place;
  for (const byte of bytes) at = at?.after(byte);
  return at;
}

/** `pending`: bytes of a symbol of which more must come. */
function placeIn(languages: Languages, language: Language, pending: readonly number[]): Place {
  const isWhole = pending.length === 0;
  return {
    canEnd: isWhole && languages.isNullable(language),
    canContinue:
      !isWhole ||
      languages.beginnings(language, tokenSymbol(LAST_TOKEN_ID), LAST_CODE_POINT).length > 0,
    after(byte) {
      const symbols = symbolsOf([...pending, byte]);
      if (symbols === undefined) return undefined;
      const { first, last, missing } = symbols;
      if (languages.beginnings(language, first, last).length === 0) return undefined;
      if (missing > 0) return placeIn(languages, language, [...pending, byte]);
      return placeIn(languages, languages.derivative(language, first), []);
    },
  };
}

const LAST_CODE_POINT = 0x10ffff;
/** By length of the encoding: the bits that mark a first byte, and the least code point. */
const UTF8 = [
  { length: 1, mark: 0x00, bits: 7, least: 0 },
  { length: 2, mark: 0xc0, bits: 5, least: 0x80 },
  { length: 3, mark: 0xe0, bits: 4, least: 0x800 },
  { length: 4, mark: 0xf0, bits: 3, least: 0x10000 },
] as const;

/** The symbols whose bytes begin with these, and how many bytes are missing. */
function symbolsOf(
  bytes: readonly number[],
): { readonly first: number; readonly last: number; readonly missing: number } | undefined {
  const [lead = 0, ...more] = bytes;
  if (lead === CONTROL_TOKEN_BYTE) {
    if (more.some((byte) => byte > 0x7f)) return undefined;
    const missing = 3 - more.length;
    const low = more.reduce((id, byte) => (id << 7) | byte, 0) << (7 * missing);
    const high = low + (1 << (7 * missing)) - 1;
    return { first: tokenSymbol(high), last: tokenSymbol(low), missing };
  }
  const form = UTF8.find(({ mark, bits }) => lead >> bits === mark >> bits);
  if (form === undefined || more.some((byte) => byte >> 6 !== 0b10)) return undefined;
  const missing = form.length - bytes.length;
  const value = more.reduce((point, byte) => (point << 6) | (byte & 0x3f), lead - form.mark);
  const low = value << (6 * missing);
  const first = Math.max(low, form.least);
  const last = Math.min(low + (1 << (6 * missing)) - 1, LAST_CODE_POINT);
  return first > last ? undefined : { first, last, missing };
}
