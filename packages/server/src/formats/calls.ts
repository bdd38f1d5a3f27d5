import type { Expression } from '@bridgekeeper/engine/grammar';
import type { CallWriter } from './call-writer.ts';
import type { PartList } from './parts.ts';
import type { Source, Wait } from './source.ts';
import type { TagMarks } from './tags.ts';

/** The schemas of the arguments of a request's tools, by name; undefined where a tool has none. */
export type ToolSchemas = ReadonlyMap<string, unknown>;

/** Of what is read before it is known to be a call, in units of UTF-16; with more it is none. */
const MAX_HEADER_UNITS = 4096;

/** How a model writes calls of tools. */
export interface ToolFormat {
  /** Everything that may be a token of its own. */
  readonly tags: readonly string[];
  /** What opens calls wherever it stands in the answer. */
  readonly triggers: readonly string[];
  /** What opens calls where the answer's content begins with it: a bracket. */
  readonly opening?: string;
  /** Its tags are what text may quote: one within a string of JSON is a part of that. */
  readonly quotesTags?: true;
  /**
   * The ids that the model's template expects: nine letters or digits, or what the model writes;
   * absent: any.
   */
  readonly callIds?: 'short';
  /**
   * Reads calls from the trigger or bracket on, which is unread. Returns where the text is no
   * longer of a call; what was begun and not ended then becomes content.
   */
  read(calls: CallReader): Wait<void>;
  /** What calls look like as the model was trained to write them, with nothing around them. */
  write(writer: CallWriter): Expression;
}

/** What formats read with and tell what they have read. */
export class CallReader {
  readonly source: Source;
  readonly tools: ToolSchemas;
  readonly #parts: PartList;
  readonly #marks: TagMarks;
  /** Calls are kept as they were written until they are whole, so that a broken one is content. */
  readonly #keepsCalls: boolean;
  #state: 'outside' | 'header' | 'arguments' = 'outside';

  constructor(
    source: Source,
    parts: PartList,
    options: {
      readonly marks: TagMarks;
      readonly tools: ToolSchemas;
      readonly keepsCalls: boolean;
    },
  ) {
    this.source = source;
    this.tools = options.tools;
    this.#parts = parts;
    this.#marks = options.marks;
    this.#keepsCalls = options.keepsCalls;
  }

  /** What was read last is a call, or may be one. */
  get isOpen(): boolean {
    return this.#state !== 'outside';
  }

  /** How a tag is in the source. */
  tag(text: string): string {
    return this.#marks.mark(text);
  }

  /** What follows may be a call: until `begin` it is kept. */
  open(): void {
    this.#state = 'header';
    this.source.keep(MAX_HEADER_UNITS);
  }

  /** It is a call, of this tool. */
  begin(name: string, id?: string): void {
    this.#parts.call(name, id, this.#keepsCalls);
    this.#state = 'arguments';
    if (this.#keepsCalls) this.source.keepOn();
    else this.source.release();
  }

  arguments(text: string): void {
    this.#parts.arguments(text);
  }

  /** The call is whole. Further space and tags of its end are read after this. */
  end(): void {
    this.source.release();
    this.#state = 'outside';
    this.#parts.endCall();
  }

  /** Reads the tag that closes calls which are whole, where it is there. */
  *closeWith(tag: string): Wait<void> {
    this.open();
    yield* this.source.skipSpace();
    if ((yield* this.source.take(this.tag(tag))) === undefined) return this.giveUp();
    this.close();
    this.swallow();
  }

  /** What was read since `open` belongs to the format, and to no text. */
  close(): void {
    this.source.release();
    this.#state = 'outside';
  }

  /** What is open was no call after all. */
  giveUp(): void {
    const kept = this.source.release();
    if (this.#state === 'header') this.content(kept);
    // One that was sent as it came stays what it is: a call that broke off.
    if (this.#state === 'arguments') this.#parts.dropCall(this.#marks.spelled(kept));
    this.#state = 'outside';
  }

  content(text: string): void {
    this.#parts.text(this.#marks.spelled(text));
  }

  reasoning(text: string): void {
    this.#parts.reasoning(this.#marks.spelled(text));
  }

  /** A tag was read: the space around it is no part of any text. */
  swallow(): void {
    this.#parts.tag();
  }
}

/** Names of tools as OpenAI allows them, and what else models are known to be given. */
const NAME_UNIT = /[\w.:/-]/;
const MAX_NAME_UNITS = 256;

/** The name of a tool; undefined where none stands here. */
export function* readName(source: Source, unit = NAME_UNIT): Wait<string | undefined> {
  const name = yield* source.word(unit, MAX_NAME_UNITS);
  return name === '' ? undefined : name;
}
