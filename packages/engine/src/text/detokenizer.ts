import type { LeadingStrip, TokenTable } from './token-table.ts';
import { decodeUtf8, incompleteTail, REPLACEMENT } from './utf8.ts';

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

  /** `continues`: the text goes on from a prompt, so nothing is stripped from its start. */
  constructor(table: TokenTable, skipped: ReadonlySet<number> = NO_SKIPS, continues = false) {
    this.#table = table;
    this.#skipped = skipped;
    this.#strip = table.strip;
    this.#stripsLeft = continues ? 0 : (table.strip?.count ?? 0);
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
        this.#waiting = undefined;
        text += REPLACEMENT + whole;
      } else {
        text += whole;
      }
    }
    return this.#stripsLeft > 0 && text !== '' ? this.#stripStart(text) : text;
  }

  finish(): string {
    const rest = this.#waiting === undefined ? '' : REPLACEMENT;
    this.#waiting = undefined;
    return rest;
  }

  #pushBytes(bytes: Uint8Array): string {
    let all = bytes;
    if (this.#waiting !== undefined) {
      all = new Uint8Array(this.#waiting.length + bytes.length);
      all.set(this.#waiting);
      all.set(bytes, this.#waiting.length);
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

/** An ill-formed character that never completes must not hold back the text for ever. */
const MAX_WAITING_TOKENS = 16;

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

  constructor(decode: (ids: number[]) => string) {
    this.#decode = decode;
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
    const before = this.#decode(this.#ids.slice(0, this.#read));
    const after = this.#decode(this.#ids);
    const mayWait = !final && this.#ids.length - this.#read < MAX_WAITING_TOKENS;
    if (after.length <= before.length || (mayWait && after.endsWith(REPLACEMENT))) return '';
    this.#ids = this.#ids.slice(this.#read);
    this.#read = this.#ids.length;
    return after.slice(before.length);
  }
}
