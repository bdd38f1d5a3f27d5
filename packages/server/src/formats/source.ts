/** A reader that pauses where the text so far ends, and goes on when there is more. */
export type Wait<T> = Generator<void, T, void>;

const SPACE = /\s/;

/**
 * The text of an answer as it comes. What it is read as depends on the text alone and never on how
 * it was cut: where more text could change what is read, reading waits for it.
 *
 * Tags that are tokens of the model come as marks (`TagMarks`), so that no text can be taken for
 * them.
 */
export class Source {
  /** Marks spelled out. */
  readonly spelled: (text: string) => string;
  /** Marks may be quoted in strings of JSON. */
  readonly quotesMarks: boolean;
  /** Unread text begins at `#at`. */
  #text = '';
  #at = 0;
  #pushes = 0;
  #isEnded = false;
  /** What was read since `keep`; undefined: nothing is kept. */
  #kept: string | undefined;
  #maxKept = 0;

  constructor(spelled: (text: string) => string = (text) => text, quotesMarks = false) {
    this.spelled = spelled;
    this.quotesMarks = quotesMarks;
  }

  push(text: string): void {
    this.#text = this.#text.slice(this.#at) + text;
    this.#at = 0;
    this.#pushes += 1;
  }

  /** Nothing more comes. */
  end(): void {
    this.#isEnded = true;
    this.#pushes += 1;
  }

  /**
   * Keeps what is read from here on, so that it can be given up as text. With more than `maxUnits`
   * of it nothing more is read.
   */
  keep(maxUnits: number): void {
    this.#kept = '';
    this.#maxKept = maxUnits;
  }

  /** What is kept may have any length. */
  keepOn(): void {
    this.#maxKept = Number.POSITIVE_INFINITY;
  }

  /** What was read since `keep`, which ends. */
  release(): string {
    const text = this.#kept ?? '';
    this.#kept = undefined;
    return text;
  }

  /** More is kept than may be. */
  get isFull(): boolean {
    return this.#kept !== undefined && this.#kept.length > this.#maxKept;
  }

  /** Waits for text. Whether there is any; false at the end, and while too much is kept. */
  *hasMore(): Wait<boolean> {
    if (this.isFull) return false;
    while (this.#at >= this.#text.length && !this.#isEnded) yield;
    return this.#at < this.#text.length;
  }

  /** The next unit of UTF-16, not read yet; empty at the end. */
  *peek(): Wait<string> {
    return (yield* this.hasMore()) ? this.#text[this.#at]! : '';
  }

  /** What has come and is not read yet. */
  get unread(): string {
    return this.#at === 0 ? this.#text : this.#text.slice(this.#at);
  }

  /** Reads so many units of what has come. */
  read(units: number): string {
    const text = this.#text.slice(this.#at, this.#at + units);
    this.#at += units;
    if (this.#kept !== undefined) this.#kept += text;
    return text;
  }

  /** Reads the longest of `texts` that is here. undefined: none is, and nothing is read. */
  *take(...texts: readonly string[]): Wait<string | undefined> {
    for (;;) {
      const { unread } = this;
      const mayGrow = texts.some((text) => text.length > unread.length && text.startsWith(unread));
      if (!mayGrow || this.#isEnded) {
        const here = texts.filter((text) => unread.startsWith(text));
        const longest = here.sort((a, b) => b.length - a.length)[0];
        if (longest !== undefined) this.read(longest.length);
        return longest;
      }
      yield* this.#growth();
    }
  }

  *skipSpace(): Wait<void> {
    for (let unit = yield* this.peek(); SPACE.test(unit); unit = yield* this.peek()) this.read(1);
  }

  /** Reads the units that `units` matches, at most `max`; undefined where there are more. */
  *word(units: RegExp, max: number): Wait<string | undefined> {
    let word = '';
    for (let unit = yield* this.peek(); unit !== ''; unit = yield* this.peek()) {
      if (!units.test(unit)) return word;
      if (word.length === max) return undefined;
      word += this.read(1);
    }
    return word;
  }

  /**
   * Reads up to the first of `stops`, which stays unread, and returns it. What was read is told,
   * spelled out, as it is known to be no part of one. undefined: the text ended without one.
   */
  *until(stops: readonly string[], told: (text: string) => void): Wait<string | undefined> {
    const pattern = new RegExp(stops.map(escaped).join('|'));
    for (;;) {
      const { unread } = this;
      const at = stops.length === 0 ? -1 : unread.search(pattern);
      const free = at >= 0 ? at : unread.length - (this.#isEnded ? 0 : openLength(unread, stops));
      if (free > 0) told(this.spelled(this.read(free)));
      if (at >= 0) {
        const here = this.unread;
        return stops.find((stop) => here.startsWith(stop));
      }
      if (this.#isEnded) return undefined;
      yield* this.#growth();
    }
  }

  *#growth(): Wait<void> {
    for (const pushes = this.#pushes; this.#pushes === pushes; ) yield;
  }
}

function escaped(text: string): string {
  return text.replace(/[$()*+.?[\\\]^{|}]/g, '\\$&');
}

/** How much of the end of `text` may be the start of a stop. */
function openLength(text: string, stops: readonly string[]): number {
  let open = 0;
  for (const stop of stops) {
    let at = text.indexOf(stop[0]!, text.length - stop.length + 1);
    while (at >= 0 && !stop.startsWith(text.slice(at))) at = text.indexOf(stop[0]!, at + 1);
    if (at >= 0) open = Math.max(open, text.length - at);
  }
  return open;
}
