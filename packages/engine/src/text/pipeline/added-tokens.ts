import { WHITE_SPACE, WORD } from './patterns.ts';

/** A token that is found in text before anything is split. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Only where no letter, digit or underscore touches it. */
  readonly singleWord: boolean;
  /** White space before it, or after it, is part of it. */
  readonly leftStrip: boolean;
  readonly rightStrip: boolean;
  /** It is looked for in normalised text, by its normalised content. */
  readonly normalized: boolean;
  /** It is no text of the model's: left out where special tokens are. */
  readonly special: boolean;
}

/** A token and the UTF-16 units of a text that it is written as. */
interface Found {
  readonly token: AddedToken;
  readonly at: number;
  readonly end: number;
}

interface Node {
  readonly next: Map<string, Node>;
  token: AddedToken | undefined;
}

const SPACE_AT_END = new RegExp(`[${WHITE_SPACE}]*$`, 'u');
const SPACE_AT_START = new RegExp(`[${WHITE_SPACE}]*`, 'uy');
const WORD_AT_END = new RegExp(`[${WORD}]$`, 'u');
const WORD_AT_START = new RegExp(`[${WORD}]`, 'uy');

function startsAt(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0];
}

/** Where white space before `end` begins, but not before `from`. */
function spaceBefore(text: string, from: number, end: number): number {
  return Math.max(from, end - (SPACE_AT_END.exec(text.slice(from, end))?.[0].length ?? 0));
}

function standsAlone(text: string, from: number, to: number): boolean {
  // Two code units, for a character outside the basic plane.
  const before = WORD_AT_END.test(text.slice(Math.max(0, from - 2), from));
  return !before && startsAt(WORD_AT_START, text, to) === undefined;
}

/** Finds added tokens by the text they are written as. */
export class AddedTokenFinder {
  readonly #root: Node = { next: new Map(), token: undefined };

  add(written: string, token: AddedToken): void {
    if (written === '') return;
    let node = this.#root;
    for (let i = 0; i < written.length; i++) {
      let next = node.next.get(written[i]!);
      if (next === undefined) {
        next = { next: new Map(), token: undefined };
        node.next.set(written[i]!, next);
      }
      node = next;
    }
    node.token ??= token;
  }

  /** The text between added tokens, and these; the longest of those that begin at one place. */
  split(text: string): (string | AddedToken)[] {
    const parts: (string | AddedToken)[] = [];
    let from = 0;
    for (const { token, at, end } of this.find(text)) {
      const start = token.leftStrip ? spaceBefore(text, from, at) : at;
      if (start > from) parts.push(text.slice(from, start));
      parts.push(token);
      from = token.rightStrip ? end + startsAt(SPACE_AT_START, text, end)!.length : end;
    }
    if (from < text.length) parts.push(text.slice(from));
    return parts;
  }

  *find(text: string): Iterable<Found> {
    let at = 0;
    while (at < text.length) {
      const found = this.#longestAt(text, at);
      if (found === undefined) {
        at += 1;
        continue;
      }
      const { token, end } = found;
      if (!token.singleWord || standsAlone(text, at, end)) yield found;
      at = end;
    }
  }

  #longestAt(text: string, at: number): Found | undefined {
    let found: Found | undefined;
    let node = this.#root.next.get(text[at]!);
    for (let end = at + 1; node !== undefined; end++) {
      if (node.token !== undefined) found = { token: node.token, at, end };
      node = end < text.length ? node.next.get(text[end]!) : undefined;
    }
    return found;
  }
}
