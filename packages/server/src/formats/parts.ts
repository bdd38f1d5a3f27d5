/** What an answer says, in its order. Pieces of one thing follow each other. */
export type AnswerPart =
  | { readonly kind: 'content' | 'reasoning'; readonly text: string }
  /** A call begins; the first has index 0. */
  | { readonly kind: 'call'; readonly index: number; readonly id: string; readonly name: string }
  /** Of the call that began last: a piece of a JSON text. */
  | { readonly kind: 'arguments'; readonly index: number; readonly text: string }
  /** The call is whole. */
  | { readonly kind: 'call-end'; readonly index: number }
  /** The call is none: `text` is what the model wrote. Only where calls are kept to their end. */
  | { readonly kind: 'broken'; readonly index: number; readonly text: string };

const LAST_SPACE = /\s*$/;
/** Whitespace that may turn out to be nothing but the space around a tag. */
const MAX_HELD_SPACE = 4096;

/**
 * Gathers parts, pieces of one kind in one. Whitespace around tags belongs to the format: it is
 * left out before and after calls, at both ends of reasoning and between reasoning and content.
 */
export class PartList {
  readonly #newCallId: () => string;
  #parts: AnswerPart[] = [];
  #calls = 0;
  #wholeCalls = 0;
  /** The end of the text, held back while a tag may follow it. */
  #space = '';
  /** What was left out before the last call. */
  #leftOut = '';
  #kind: 'content' | 'reasoning' = 'content';
  /** What stands at the start of the text belongs to a tag. */
  #trims = false;

  /** `newCallId` names calls to which the model gives no id. */
  constructor(newCallId: () => string) {
    this.#newCallId = newCallId;
  }

  /** Calls that are whole. */
  get wholeCalls(): number {
    return this.#wholeCalls;
  }

  content(text: string): void {
    this.#say('content', text);
  }

  reasoning(text: string): void {
    this.#say('reasoning', text);
  }

  /** A tag stands here that is no part of the text. */
  tag(): void {
    this.#space = '';
    this.#trims = true;
  }

  call(name: string, id: string | undefined): void {
    this.#leftOut = this.#space;
    this.tag();
    this.#parts.push({
      kind: 'call',
      index: this.#calls,
      id: id ?? this.#newCallId(),
      name,
    });
    this.#calls += 1;
  }

  arguments(text: string): void {
    if (text === '') return;
    const index = this.#calls - 1;
    const last = this.#parts.at(-1);
    if (last?.kind === 'arguments') {
      this.#parts[this.#parts.length - 1] = { kind: 'arguments', index, text: last.text + text };
    } else this.#parts.push({ kind: 'arguments', index, text });
  }

  endCall(): void {
    this.#wholeCalls += 1;
    this.#parts.push({ kind: 'call-end', index: this.#calls - 1 });
  }

  broken(text: string): void {
    this.#parts.push({ kind: 'broken', index: this.#calls - 1, text: this.#leftOut + text });
    this.#trims = false;
  }

  /** The text ends; space at its end is a part of it, unless a tag is before it. */
  finish(): void {
    this.#push(this.#space);
    this.#space = '';
  }

  /** What has come since the last time. */
  take(): readonly AnswerPart[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }

  #say(kind: 'content' | 'reasoning', text: string): void {
    if (kind !== this.#kind) {
      this.#push(this.#space);
      this.#space = '';
      this.#kind = kind;
    }
    const said = this.#trims ? text.trimStart() : this.#space + text;
    if (said === '') return;
    this.#trims = false;
    const end = said.length - LAST_SPACE.exec(said)![0].length;
    const shown = Math.max(end, said.length - MAX_HELD_SPACE);
    this.#push(said.slice(0, shown));
    this.#space = said.slice(shown);
  }

  #push(text: string): void {
    if (text === '') return;
    const last = this.#parts.at(-1);
    if (last?.kind === this.#kind && 'text' in last) {
      this.#parts[this.#parts.length - 1] = { kind: this.#kind, text: last.text + text };
    } else this.#parts.push({ kind: this.#kind, text });
  }
}
