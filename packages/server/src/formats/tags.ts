/** The first of the units that mark tags: half of a character, which no decoded text has alone. */
const FIRST_MARK = 0xdc00;
const MAX_TAGS = 64;
const LONE_MARKS = /[\udc00-\udc3f]/gu;

/** Whether a tag is in the text as a mark, where it is alone: a unit of its own. */
export function isMark(tag: string): boolean {
  const code = tag.charCodeAt(0);
  return tag.length === 1 && code >= FIRST_MARK && code < FIRST_MARK + MAX_TAGS;
}

/**
 * The tags of a format in a model's vocabulary. One that is a token of its own is known by its id
 * alone, and is in the text as one unit that no text has; what is spelled like it stays text.
 */
export class TagMarks {
  readonly #texts: readonly string[];
  readonly #marks = new Map<string, string>();
  readonly #byToken = new Map<number, string>();

  constructor(texts: readonly string[], tokenId: (text: string) => number | undefined) {
    this.#texts = texts.slice(0, MAX_TAGS);
    this.#texts.forEach((text, at) => {
      const token = tokenId(text);
      const mark = token === undefined ? text : String.fromCharCode(FIRST_MARK + at);
      this.#marks.set(text, mark);
      if (token !== undefined) this.#byToken.set(token, mark);
    });
  }

  /** Ids of the tags that are tokens, by their spelling. */
  get tokens(): ReadonlyMap<string, number> {
    return new Map([...this.#byToken].map(([token, mark]) => [this.spelled(mark), token]));
  }

  /** How the tag is in the text. */
  mark(text: string): string {
    return this.#marks.get(text) ?? text;
  }

  /** The mark of a token; undefined: it is none of the tags. */
  ofToken(token: number): string | undefined {
    return this.#byToken.get(token);
  }

  /** Text in which what is spelled like a tag is one: a prompt's, never an answer's. */
  marked(text: string): string {
    let marked = text;
    for (const [tag, mark] of this.#marks) marked = marked.replaceAll(tag, mark);
    return marked;
  }

  /** Text with its marks spelled out. */
  spelled(text: string): string {
    return text.replace(LONE_MARKS, (mark) => this.#texts[mark.charCodeAt(0) - FIRST_MARK] ?? '');
  }
}
