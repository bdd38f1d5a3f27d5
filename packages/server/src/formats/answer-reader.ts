import { CallReader, type ToolFormat, type ToolSchemas } from './calls.ts';
import { HARMONY_TAGS, openMessage, readHarmony } from './harmony.ts';
import { type AnswerPart, PartList } from './parts.ts';
import { type ReasoningFormat, reasoningAfter } from './reasoning.ts';
import { Source, type Wait } from './source.ts';
import { isMark, type TagMarks } from './tags.ts';

/** How a model writes its answers: reasoning and calls apart, or messages that hold both. */
export type AnswerFormat =
  | {
      readonly kind: 'tags';
      readonly reasoning: ReasoningFormat | undefined;
      readonly tools: ToolFormat | undefined;
    }
  | { readonly kind: 'harmony' };

/** Where the prompt leaves the answer. */
export interface AnswerStart {
  /** Whether the prompt opens reasoning, closes what it opened, or leaves both to the model. */
  readonly reasoning: 'open' | 'closed' | 'unsaid';
  /** What of the prompt the answer goes on from, where that is inside of a message. */
  readonly primer: string;
}

/**
 * Where `prompt` leaves the answer. `continued` is the content of its last message, where the
 * answer goes on in that.
 */
export function startOf(
  format: AnswerFormat,
  prompt: string,
  continued: string | undefined,
): AnswerStart {
  if (format.kind === 'harmony') {
    return { reasoning: 'unsaid', primer: openMessage(prompt) };
  }
  const { reasoning } = format;
  const state = reasoning === undefined ? 'closed' : reasoningAfter(reasoning, prompt, continued);
  return { reasoning: state, primer: '' };
}

/** What an answer is read with. */
export interface ReadOptions {
  /** The request's tools; undefined: calls stay the text that they are. */
  readonly tools: ToolSchemas | undefined;
  readonly start: AnswerStart;
  /** Calls that break off become text, which is known only at their end: nothing streams them. */
  readonly keepsCalls: boolean;
  /** Names calls to which the model gives no id. */
  readonly newCallId: () => string;
}

export function tagsOf(format: AnswerFormat): readonly string[] {
  if (format.kind === 'harmony') return HARMONY_TAGS;
  const { reasoning, tools } = format;
  const thinking = reasoning === undefined ? [] : [reasoning.open, reasoning.close];
  return [...new Set([...thinking, ...(tools?.tags ?? [])])];
}

/**
 * Reads one answer as it comes: text and control tokens in, parts out. However the text is cut, the
 * parts say the same. What is held back is bounded; `finish` gives it up.
 */
export class AnswerReader {
  readonly marks: TagMarks;
  readonly #source: Source;
  readonly #parts: PartList;
  readonly #calls: CallReader;
  readonly #reading: Wait<void>;
  #isReasoning: boolean;

  /** `marks` are of the format's tags. */
  constructor(format: AnswerFormat, marks: TagMarks, options: ReadOptions) {
    this.marks = marks;
    const quotes = format.kind === 'tags' && format.tools?.quotesTags === true;
    this.#source = new Source((text) => marks.spelled(text), quotes);
    this.#parts = new PartList(options.newCallId);
    this.#isReasoning = options.start.reasoning === 'open';
    this.#calls = new CallReader(this.#source, this.#parts, {
      marks,
      tools: options.tools ?? new Map(),
      keepsCalls: options.keepsCalls,
    });
    this.#reading =
      format.kind === 'harmony'
        ? readHarmony(this.#calls, options.tools !== undefined, (is) => (this.#isReasoning = is))
        : this.#read(format, this.#calls, options);
    this.#reading.next();
    if (options.start.primer === '') return;
    this.push(marks.marked(options.start.primer));
    this.#parts.take();
  }

  /** What the text so far ends in. */
  get place(): 'text' | 'reasoning' | 'call' {
    if (this.#isReasoning) return 'reasoning';
    return this.#calls.isOpen ? 'call' : 'text';
  }

  get wholeCalls(): number {
    return this.#parts.wholeCalls;
  }

  /** Text, with tags that are tokens as their marks. */
  push(text: string): void {
    if (text === '') return;
    this.#source.push(text);
    this.#reading.next();
  }

  /** Nothing more comes. */
  finish(): void {
    this.#source.end();
    this.#reading.next();
    this.#parts.finish();
  }

  /** What was read since the last time. */
  take(): readonly AnswerPart[] {
    return this.#parts.take();
  }

  *#read(
    { reasoning, tools }: Extract<AnswerFormat, { kind: 'tags' }>,
    calls: CallReader,
    options: ReadOptions,
  ): Wait<void> {
    const source = this.#source;
    const readsCalls = options.tools !== undefined && tools !== undefined;
    const triggers = readsCalls ? tools.triggers.map((each) => calls.tag(each)) : [];
    const open = reasoning && calls.tag(reasoning.open);
    if (this.#isReasoning) yield* this.#think(reasoning!, triggers, calls);
    // What is a tag only where an answer begins: a bracket, and text that opens reasoning.
    yield* readSpace(calls);
    if (open !== undefined && (yield* source.take(open)) !== undefined) {
      yield* this.#think(reasoning!, triggers, calls);
      yield* readSpace(calls);
    }
    if (readsCalls && (yield* source.peek()) === tools.opening) {
      yield* tools.read(calls);
      calls.giveUp();
    }
    const opens = open !== undefined && isMark(open) ? [open] : [];
    for (;;) {
      const stop = yield* source.until([...triggers, ...opens], (text) => calls.content(text));
      if (stop === undefined) return;
      if (stop === open) {
        source.read(stop.length);
        yield* this.#think(reasoning!, triggers, calls);
      } else {
        yield* tools!.read(calls);
        calls.giveUp();
      }
    }
  }

  /** Reads reasoning, from behind its opening tag to behind its closing one. */
  *#think(
    { close, label }: ReasoningFormat,
    triggers: readonly string[],
    calls: CallReader,
  ): Wait<void> {
    const end = calls.tag(close);
    this.#isReasoning = true;
    calls.swallow();
    if (label !== undefined) yield* this.#source.take(label);
    // Models forget to close it before they call; a tag that no text can spell is believed.
    const ends = [end, ...triggers.filter(isMark)];
    const stop = yield* this.#source.until(ends, (text) => calls.reasoning(text));
    if (stop === end) this.#source.read(end.length);
    if (stop !== undefined) calls.swallow();
    this.#isReasoning = stop === undefined;
  }
}

/** Space before whatever an answer begins with: content, unless that is a tag. */
function* readSpace(calls: CallReader): Wait<void> {
  const { source } = calls;
  for (let unit = yield* source.peek(); /\s/.test(unit); unit = yield* source.peek()) {
    calls.content(source.read(1));
  }
}
