import { Worker } from 'node:worker_threads';
import type { ModelFiles } from '@bridgekeeper/engine/models';
import {
  MarkedText,
  TextError,
  type TextErrorCode,
  type Tokenizer,
} from '@bridgekeeper/engine/text';

/** A conversation that was validated, to be rendered and encoded. */
export interface ConversationWork {
  readonly kind: 'conversation';
  /** As it was validated. */
  readonly request: object;
  readonly received: Uint8Array;
  readonly addSpecialTokens: boolean;
  /** Longer prompts are refused before they are encoded, where their length alone says so. */
  readonly maxTokens: number;
}

/** What a conversation comes to: its text, as the template has it, and its tokens. */
export interface ChatPrompt {
  readonly text: string;
  readonly tokens: Uint32Array;
}

/** Why a conversation makes no prompt, as the client is told it. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly param: string | undefined;
}

export type EncoderWork =
  | { readonly kind: 'encode'; readonly text: string; readonly addSpecialTokens: boolean }
  | { readonly kind: 'encode-marked'; readonly marked: string; readonly addSpecialTokens: boolean }
  | { readonly kind: 'decode'; readonly tokens: Uint32Array }
  | ConversationWork;

type Result = Uint32Array | string | ChatPrompt | Refusal;

export interface EncoderTask {
  readonly id: number;
  readonly work: EncoderWork;
}

export type EncoderReply =
  | { readonly id: number; readonly result: Result; readonly error?: undefined }
  | {
      readonly id: number;
      readonly result?: undefined;
      readonly error: { readonly code: TextErrorCode; readonly message: string };
    };

/** What the thread opens. */
export interface WorkerText {
  /** With their contents: nothing is read again. */
  readonly files: ModelFiles;
  readonly isLiteral: boolean;
}

/**
 * Characters or tokens of one turn of the event loop, over all requests; what goes beyond is done
 * elsewhere. About a millisecond's work.
 */
const INLINE_SYMBOLS = 2048;

interface Pending {
  resolve(result: Result): void;
  reject(error: Error): void;
}

/**
 * Renders, encodes and decodes without blocking the thread that serves everybody: a little at once,
 * the rest in a worker with a tokenizer of its own, which starts when it is first needed.
 */
export class Encoder {
  readonly #opened: WorkerText;
  readonly #tokenizer: Tokenizer;
  readonly #thread: URL | undefined;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #tasks = 0;
  #inlineSymbols = 0;

  /** `thread` is the script of the other thread; undefined: everything is done here. */
  constructor(opened: WorkerText, tokenizer: Tokenizer, thread: URL | undefined) {
    this.#opened = opened;
    this.#tokenizer = tokenizer;
    this.#thread = thread;
  }

  get hasThread(): boolean {
    return this.#thread !== undefined;
  }

  /** Throws TextError `unencodable`, or `not-literal`. */
  async encode(text: string | MarkedText, addSpecialTokens: boolean): Promise<Uint32Array> {
    const isMarked = text instanceof MarkedText;
    if (this.#fitsTurn(isMarked ? text.marked.length : text.length)) {
      return isMarked
        ? this.#tokenizer.encodeMarked(text, addSpecialTokens)
        : this.#tokenizer.encode(text, addSpecialTokens);
    }
    const work: EncoderWork = isMarked
      ? { kind: 'encode-marked', marked: text.marked, addSpecialTokens }
      : { kind: 'encode', text, addSpecialTokens };
    return (await this.#elsewhere(work)) as Uint32Array;
  }

  /** Renders and encodes a conversation on the other thread. Throws TextError. */
  async conversation(work: ConversationWork): Promise<ChatPrompt | Refusal> {
    return (await this.#elsewhere(work)) as ChatPrompt | Refusal;
  }

  /** The text of a whole sequence, special tokens included. */
  async decode(tokens: readonly number[]): Promise<string> {
    if (this.#fitsTurn(tokens.length)) return this.#tokenizer.decode(tokens, false);
    const work: EncoderWork = { kind: 'decode', tokens: Uint32Array.from(tokens) };
    return (await this.#elsewhere(work)) as string;
  }

  #fitsTurn(symbols: number): boolean {
    if (this.#thread === undefined) return true;
    if (this.#inlineSymbols + symbols > INLINE_SYMBOLS) return false;
    if (this.#inlineSymbols === 0) setImmediate(() => (this.#inlineSymbols = 0));
    this.#inlineSymbols += symbols;
    return true;
  }

  #elsewhere(work: EncoderWork): Promise<Result> {
    this.#worker ??= this.#start(this.#thread!);
    this.#tasks += 1;
    const task: EncoderTask = { id: this.#tasks, work };
    const done = new Promise<Result>((resolve, reject) => {
      this.#pending.set(task.id, { resolve, reject });
    });
    this.#worker.postMessage(task);
    return done;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(thread: URL): Worker {
    const worker = new Worker(thread, { workerData: this.#opened });
    worker.on('message', ({ id, result, error }: EncoderReply) => {
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (result !== undefined) pending?.resolve(result);
      else pending?.reject(new TextError(error.code, error.message));
    });
    // An error is always followed by an exit.
    worker.on('error', (error) => this.#lose(worker, error));
    worker.on('exit', () => this.#lose(worker, new Error('the encoder ended')));
    worker.unref();
    return worker;
  }

  /** The next long text starts a new worker. */
  #lose(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
