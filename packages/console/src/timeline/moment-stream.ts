const QUOTE = 0x22;
const COMMA = 0x2c;
const LIST = 0x5b;
const BACKSLASH = 0x5c;
const LIST_END = 0x5d;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;

/** Within the document's object, and a list in it. */
const ITEM_DEPTH = 2;
const NAME = /[{,]\s*"moments"\s*:\s*$/;
/** With as much white space as anybody writes there. */
const NAME_CHARACTERS = 64;

/**
 * Takes a JSON document as it comes and gives out the items of its list `moments` one by one, each
 * as text: of an hour there are so many that to have them all at once would be most of the work.
 * Judges nothing: the document is JSON if all items and the rest are.
 */
export class MomentStream {
  readonly #rest: string[] = [];
  /** Of what is being read: an item, or else what belongs to the rest. */
  #begun = '';
  #depth = 0;
  #isInText = false;
  #isEscaped = false;
  #isInList = false;
  #items = 0;

  /** How many items came. */
  get items(): number {
    return this.#items;
  }

  /** Whether the list began and has not ended. */
  get isInList(): boolean {
    return this.#isInList;
  }

  /** The document with no moments in it, as far as it came. */
  get rest(): string {
    return this.#rest.join('') + (this.#isInList ? '' : this.#begun);
  }

  /** Tells `onItem` of each item that ends in `text`. */
  push(text: string, onItem: (item: string) => void): void {
    let from = 0;
    let depth = this.#depth;
    let isInText = this.#isInText;
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (isInText) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (code === BACKSLASH) this.#isEscaped = true;
        else if (code === QUOTE) isInText = false;
      } else if (code === COMMA) {
        if (depth !== ITEM_DEPTH || !this.#isInList) continue;
        this.#item(text.slice(from, at), onItem);
        from = at + 1;
      } else if (code === LIST || code === OBJECT) {
        depth += 1;
        if (code === OBJECT || depth !== ITEM_DEPTH || !this.#isNamed(text, from, at)) continue;
        this.#rest.push(this.#begun, text.slice(from, at + 1));
        this.#begun = '';
        this.#isInList = true;
        from = at + 1;
      } else if (code === LIST_END || code === OBJECT_END) {
        depth -= 1;
        if (depth >= ITEM_DEPTH || !this.#isInList) continue;
        const last = text.slice(from, at);
        // Only a list of nothing has nothing before its end.
        if (this.#items > 0 || (this.#begun + last).trim() !== '') this.#item(last, onItem);
        this.#begun = '';
        this.#isInList = false;
        from = at;
      } else if (code === QUOTE) isInText = true;
    }
    this.#begun += text.slice(from);
    this.#depth = depth;
    this.#isInText = isInText;
  }

  /** Whether what begins at `at` is what `moments` names. */
  #isNamed(text: string, from: number, at: number): boolean {
    const before = text.slice(Math.max(from, at - NAME_CHARACTERS), at);
    return NAME.test(this.#begun.slice(-NAME_CHARACTERS) + before);
  }

  #item(text: string, onItem: (item: string) => void): void {
    const item = this.#begun + text;
    this.#begun = '';
    this.#items += 1;
    onItem(item);
  }
}
