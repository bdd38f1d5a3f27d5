/** What a push yields. */
export interface StopPush {
  /** Text that may be shown: no stop string starts in it. */
  readonly text: string;
  /** The stop string that ended the text. Nothing may be pushed after it. */
  readonly matched?: string;
}

/** A stop string and, for each length of it that may have matched, the next shorter one to try. */
interface Pattern {
  readonly stop: string;
  readonly fallbacks: Int32Array;
}

/** The failure function of Knuth, Morris and Pratt. */
function patternOf(stop: string): Pattern {
  const fallbacks = new Int32Array(stop.length + 1);
  let matched = 0;
  for (let at = 1; at < stop.length; at++) {
    while (matched > 0 && stop[at] !== stop[matched]) matched = fallbacks[matched]!;
    if (stop[at] === stop[matched]) matched += 1;
    fallbacks[at + 1] = matched;
  }
  return { stop, fallbacks };
}

/**
 * Finds the stop string that is complete first (of those complete at once, the longest) in text
 * that comes in pieces, however it is cut. Text that may be the start of a stop string is held
 * back.
 */
export class StopMatcher {
  readonly #patterns: readonly Pattern[];
  /** For each pattern, how much of it the text so far ends with. */
  readonly #matched: Int32Array;
  readonly #includeStop: boolean;
  #held = '';

  /**
   * Empty stop strings are ignored. `includeStop`: the stop string that matched is part of the
   * text.
   */
  constructor(stops: readonly string[], includeStop = false) {
    this.#patterns = stops.filter((stop) => stop !== '').map(patternOf);
    this.#matched = new Int32Array(this.#patterns.length);
    this.#includeStop = includeStop;
  }

  push(piece: string): StopPush {
    for (let at = 0; at < piece.length; at++) {
      const stop = this.#advance(piece.charCodeAt(at));
      if (stop === undefined) continue;
      const text = this.#held + piece.slice(0, at + 1);
      this.#held = '';
      const end = this.#includeStop ? text.length : text.length - stop.length;
      return { text: text.slice(0, end), matched: stop };
    }
    const text = this.#held + piece;
    let keep = 0;
    for (const matched of this.#matched) keep = Math.max(keep, matched);
    this.#held = text.slice(text.length - keep);
    return { text: text.slice(0, text.length - keep) };
  }

  /** The text that was held back, when no more will come. */
  finish(): string {
    const text = this.#held;
    this.#held = '';
    return text;
  }

  /**
   * Takes one UTF-16 unit into every pattern; returns the longest stop string that it completes.
   */
  #advance(unit: number): string | undefined {
    let longest: string | undefined;
    for (let i = 0; i < this.#patterns.length; i++) {
      const { stop, fallbacks } = this.#patterns[i]!;
      let matched = this.#matched[i]!;
      while (matched > 0 && stop.charCodeAt(matched) !== unit) matched = fallbacks[matched]!;
      if (stop.charCodeAt(matched) === unit) matched += 1;
      this.#matched[i] = matched;
      if (matched === stop.length && stop.length > (longest?.length ?? 0)) longest = stop;
    }
    return longest;
  }
}
