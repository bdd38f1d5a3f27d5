/**
 * What an answer says, in the order in which the model says it. Calls are counted from 0; arguments
 * are pieces of a JSON text, of the call before them.
 */
export type AnswerPart =
  | { readonly kind: 'text' | 'reasoning'; readonly text: string }
  | { readonly kind: 'call'; readonly index: number; readonly id: string; readonly name: string }
  | { readonly kind: 'arguments'; readonly index: number; readonly text: string };

/** All text of one kind. */
export function textOf(parts: readonly AnswerPart[], kind: 'text' | 'reasoning'): string {
  return parts.map((part) => (part.kind === kind ? part.text : '')).join('');
}

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
  #held: { readonly call: Extract<AnswerPart, { kind: 'call' }>; arguments: string } | undefined;
  #wholeCalls = 0;
  /** The end of the text, held back while a tag may follow it. */
  #space = '';
  /** What was left out before the last call. */
  #leftOut = '';
  #kind: 'text' | 'reasoning' = 'text';
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

  text(text: string): void {
    this.#say('text', text);
  }

  reasoning(text: string): void {
    this.#say('reasoning', text);
  }

  /** A tag stands here that is no part of the text. */
  tag(): void {
    this.#space = '';
    this.#trims = true;
  }

  /** `isHeld`: nothing is said of it before it is whole. */
  call(name: string, id: string | undefined, isHeld: boolean): void {
    this.#leftOut = this.#space;
    this.tag();
    const call = { kind: 'call', index: this.#calls, id: id ?? this.#newCallId(), name } as const;
    if (isHeld) this.#held = { call, arguments: '' };
    else this.#begin(call);
  }

  arguments(text: string): void {
    if (this.#held !== undefined) this.#held.arguments += text;
    else this.#append('arguments', text);
  }

  /** The call is whole. */
  endCall(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) {
      this.#begin(held.call);
      this.#append('arguments', held.arguments);
    }
    this.#wholeCalls += 1;
  }

  /** The call that was held is none, but this text. */
  dropCall(text: string): void {
    if (this.#held === undefined) return;
    this.#held = undefined;
    this.#trims = false;
    this.text(this.#leftOut + text);
  }

  /** The text ends; space at its end is a part of it, unless a tag is before it. */
  finish(): void {
    this.#append(this.#kind, this.#space);
    this.#space = '';
  }

  /** What has come since the last time. */
  take(): readonly AnswerPart[] {
    const parts = this.#parts;
    this.#parts = [];
    return parts;
  }

  #say(kind: 'text' | 'reasoning', text: string): void {
    if (kind !== this.#kind) {
      this.#append(this.#kind, this.#space);
      this.#space = '';
      this.#kind = kind;
    }
    const said = this.#trims ? text.trimStart() : this.#space + text;
    if (said === '') return;
    this.#trims = false;
    const shown = Math.max(said.trimEnd().length, said.length - MAX_HELD_SPACE);
    this.#append(this.#kind, said.slice(0, shown));
    this.#space = said.slice(shown);
  }

  #begin(call: Extract<AnswerPart, { kind: 'call' }>): void {
    this.#parts.push(call);
    this.#calls += 1;
  }

  #append(kind: Exclude<AnswerPart['kind'], 'call'>, text: string): void {
    if (text === '') return;
    const last = this.#parts.at(-1);
    const isMore = last?.kind === kind;
    const whole = isMore ? last.text + text : text;
    const part: AnswerPart =
      kind === 'arguments' ? { kind, index: this.#calls - 1, text: whole } : { kind, text: whole };
    if (isMore) this.#parts[this.#parts.length - 1] = part;
    else this.#parts.push(part);
  }
}
