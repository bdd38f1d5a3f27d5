import { invariant } from '@bridgekeeper/bridge';
import type { AnswerPart } from '../formats/parts.ts';
import type { LogprobItem } from './choice.ts';

/** Consecutive parts of one kind, or one call. */
export type Block =
  | {
      readonly kind: 'text' | 'reasoning';
      text: string;
      /** Of text, where they were asked for. */
      readonly logprobs: LogprobItem[];
    }
  | { readonly kind: 'call'; readonly id: string; readonly name: string; text: string };

/** A block begins, gets more text, or is whole. */
export interface BlockEvent {
  readonly type: 'open' | 'grow' | 'close';
  readonly at: number;
  readonly block: Block;
  /** What it grew by. */
  readonly text: string;
  readonly logprobs: readonly LogprobItem[];
}

/** Puts the parts of an answer together to blocks: what the APIs but OpenAI's chat answer with. */
export class Blocks {
  readonly all: Block[] = [];
  #isOpen = false;

  add(parts: readonly AnswerPart[], logprobs: readonly LogprobItem[]): BlockEvent[] {
    const events: BlockEvent[] = [];
    let left = logprobs.filter(({ part }) => part === undefined);
    for (const part of parts) {
      const kind = part.kind === 'arguments' ? 'call' : part.kind;
      if (part.kind === 'call' || this.#kind !== kind) {
        this.#close(events);
        this.#open(part, events);
      }
      if (part.kind === 'call') continue;
      this.#grow(part.text, part.kind === 'text' ? left : [], events);
      if (part.kind === 'text') left = [];
    }
    return events;
  }

  /** Nothing more comes. An answer that says nothing at all is one of no text. */
  end(): BlockEvent[] {
    const events: BlockEvent[] = [];
    if (this.all.length === 0) this.#open({ kind: 'text', text: '' }, events);
    this.#close(events);
    return events;
  }

  get #kind(): Block['kind'] | undefined {
    return this.#isOpen ? this.all.at(-1)!.kind : undefined;
  }

  #open(part: AnswerPart, events: BlockEvent[]): void {
    invariant(part.kind !== 'arguments', 'arguments come after the call that they are of');
    const block: Block =
      part.kind === 'call'
        ? { kind: 'call', id: part.id, name: part.name, text: '' }
        : { kind: part.kind, text: '', logprobs: [] };
    this.all.push(block);
    this.#isOpen = true;
    events.push({ type: 'open', at: this.all.length - 1, block, text: '', logprobs: [] });
  }

  #grow(text: string, logprobs: readonly LogprobItem[], events: BlockEvent[]): void {
    if (text === '' && logprobs.length === 0) return;
    const at = this.all.length - 1;
    const block = this.all[at]!;
    block.text += text;
    if (block.kind !== 'call') block.logprobs.push(...logprobs);
    events.push({ type: 'grow', at, block, text, logprobs });
  }

  #close(events: BlockEvent[]): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const at = this.all.length - 1;
    events.push({ type: 'close', at, block: this.all[at]!, text: '', logprobs: [] });
  }
}
