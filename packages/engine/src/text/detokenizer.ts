import type { LeadingStrip, TokenTable } from './token-table.ts';
import { decodeExactly, decodeUtf8, incompleteTail, REPLACEMENT } from './utf8.ts';

/** Turns one request's tokens into text as they come. */
export interface Detokenizer {
  /**
   * The text that `ids` complete. A character whose bytes are not all there waits for the next
   * call.
   */
  push(ids: ArrayLike<number>): string;
  /** What was waiting, as replacement characters. Call once, at the end. */
  finish(): string;
}

const NO_SKIPS: ReadonlySet<number> = new Set();

/** One look-up a token; only characters split between tokens take longer. */
export class TableDetokenizer implements Detokenizer {
  readonly #table: TokenTable;
  readonly #skipped: ReadonlySet<number>;
  readonly #strip: LeadingStrip | undefined;
  /** Characters of the text's start that may still be removed. */
  #stripsLeft: number;
  /** The start of a character: up to three bytes. */
  #waiting: Uint8Array | undefined;
  /** What waits is all of the tokens before the text: where nothing completes it, it is no text. */
  #isBorrowed = false;

  /** `after`: the tokens that the text goes on from, so that nothing is stripped from its start. */
  constructor(
    table: TokenTable,
    skipped: ReadonlySet<number> = NO_SKIPS,
    after?: ArrayLike<number>,
  ) {
    this.#table = table;
    this.#skipped = skipped;
    this.#strip = table.strip;
    this.#stripsLeft = after === undefined ? (table.strip?.count ?? 0) : 0;
    if (after !== undefined) this.#borrow(after);
  }

  push(ids: ArrayLike<number>): string {
    let text = '';
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (this.#skipped.has(id)) continue;
      const whole = this.#table.text(id);
      if (whole === null) {
        text += this.#pushBytes(this.#table.bytes(id));
      } else if (this.#waiting !== undefined && whole !== '') {
        // Whole characters cannot complete the one that waits: it was ill-formed.
        text += this.finish() + whole;
      } else {
        text += whole;
      }
    }
    return this.#stripsLeft > 0 && text !== '' ? this.#stripStart(text) : text;
  }

  finish(): string {
    const rest = this.#waiting === undefined || this.#isBorrowed ? '' : REPLACEMENT;
    this.#waiting = undefined;
    return rest;
  }

  /** Takes over the start of a character in which `tokens` end. */
  #borrow(tokens: ArrayLike<number>): void {
    let bytes: Uint8Array = new Uint8Array(0);
    for (let i = tokens.length - 1; i >= 0 && bytes.length < LONGEST_START; i--) {
      const id = tokens[i]!;
      if (this.#skipped.has(id)) continue;
      if (this.#table.text(id) !== null) break;
      bytes = joined(this.#table.bytes(id), bytes);
    }
    const tail = incompleteTail(bytes);
    if (tail === 0) return;
    this.#waiting = bytes.slice(bytes.length - tail);
    this.#isBorrowed = true;
  }

  #pushBytes(bytes: Uint8Array): string {
    let all = bytes;
    if (this.#waiting !== undefined) {
      const whole = joined(this.#waiting, bytes);
      if (!this.#isBorrowed || goesOn(this.#waiting, whole)) all = whole;
      this.#isBorrowed = false;
    }
    const tail = incompleteTail(all);
    this.#waiting = tail === 0 ? undefined : all.slice(all.length - tail);
    return decodeUtf8(tail === 0 ? all : all.subarray(0, all.length - tail));
  }

  #stripStart(text: string): string {
    let at = 0;
    while (this.#stripsLeft > 0 && at < text.length) {
      const matches = text[at] === this.#strip?.content;
      this.#stripsLeft = matches ? this.#stripsLeft - 1 : 0;
      if (matches) at += 1;
    }
    return text.slice(at);
  }
}

/** A character's start has at most so many bytes. */
const LONGEST_START = 3;

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** Whether what follows `start` in `whole` completes the character, or may yet. */
function goesOn(start: Uint8Array, whole: Uint8Array): boolean {
  for (let end = start.length + 1; end <= whole.length && end <= LONGEST_START + 1; end++) {
    const part = whole.subarray(0, end);
    if (decodeExactly(part) !== undefined) return true;
    if (incompleteTail(part) !== end) return false;
  }
  return true;
}

/** An ill-formed character that never completes must not hold back the text for ever. */
const MAX_WAITING_TOKENS = 16;
/** How many tokens before a text are its context: more than one, for bytes of one character. */
const CONTEXT_TOKENS = 5;
const REPLACEMENTS_AT_END = /\ufffd+$/;

/**
 * For decoders whose tokens depend on their neighbours: decodes a window of the last tokens twice,
 * with and without the new ones, and yields the difference, as text-generation-inference and vLLM
 * do.
 */
export class WindowedDetokenizer implements Detokenizer {
  readonly #decode: (ids: number[]) => string;
  #ids: number[] = [];
  /** Ids before this one are context: their text was yielded. */
  #read = 0;
  /** The context is of the tokens before the text: a character that it begins was not yielded. */
  #isBorrowed: boolean;

  /** `after`: the tokens that the text goes on from. */
  constructor(decode: (ids: number[]) => string, after?: ArrayLike<number>) {
    this.#decode = decode;
    this.#ids = after === undefined ? [] : Array.from(after).slice(-CONTEXT_TOKENS);
    this.#read = this.#ids.length;
    this.#isBorrowed = this.#read > 0;
  }

  push(ids: ArrayLike<number>): string {
    let text = '';
    for (let i = 0; i < ids.length; i++) {
      this.#ids.push(ids[i]!);
      text += this.#advance(false);
    }
    return text;
  }

  finish(): string {
    return this.#advance(true);
  }

  #advance(final: boolean): string {
    let before = this.#decode(this.#ids.slice(0, this.#read));
    if (this.#isBorrowed) before = before.replace(REPLACEMENTS_AT_END, '');
    const after = this.#decode(this.#ids);
    const mayWait = !final && this.#ids.length - this.#read < MAX_WAITING_TOKENS;
    if (after.length <= before.length || (mayWait && after.endsWith(REPLACEMENT))) return '';
    this.#isBorrowed = false;
    this.#ids = this.#ids.slice(this.#read);
    this.#read = this.#ids.length;
    return after.slice(before.length);
  }
}
