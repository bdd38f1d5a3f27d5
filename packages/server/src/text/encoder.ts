import { Worker } from 'node:worker_threads';
import type { ModelFiles } from '@bridgekeeper/engine/models';
import { TextError, type Tokenizer } from '@bridgekeeper/engine/text';
import type { EncoderReply, EncoderTask, EncoderWork } from './encoder-worker.ts';

/**
 * Characters or tokens of one turn of the event loop, over all requests; what goes beyond is done
 * elsewhere. About a millisecond's work.
 */
const INLINE_SYMBOLS = 2048;

interface Pending {
  resolve(result: Uint32Array | string): void;
  reject(error: Error): void;
}

/**
 * Encodes and decodes without blocking the thread that serves everybody: a little at once, the rest
 * in a worker with a tokenizer of its own, which starts when it is first needed.
 */
export class Encoder {
  readonly #files: ModelFiles;
  readonly #tokenizer: Tokenizer;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #tasks = 0;
  #inlineSymbols = 0;

  constructor(files: ModelFiles, tokenizer: Tokenizer) {
    this.#files = files;
    this.#tokenizer = tokenizer;
  }

  /** Throws TextError `unencodable`. */
  async encode(text: string, addSpecialTokens: boolean): Promise<Uint32Array> {
    if (this.#fitsTurn(text.length)) return this.#tokenizer.encode(text, addSpecialTokens);
    return (await this.#elsewhere({ text, addSpecialTokens })) as Uint32Array;
  }

  /** The text of a whole sequence, special tokens included. */
  async decode(tokens: readonly number[]): Promise<string> {
    if (this.#fitsTurn(tokens.length)) return this.#tokenizer.decode(tokens, false);
    return (await this.#elsewhere({ tokens: Uint32Array.from(tokens) })) as string;
  }

  #fitsTurn(symbols: number): boolean {
    if (this.#inlineSymbols + symbols > INLINE_SYMBOLS) return false;
    if (this.#inlineSymbols === 0) setImmediate(() => (this.#inlineSymbols = 0));
    this.#inlineSymbols += symbols;
    return true;
  }

  #elsewhere(work: EncoderWork): Promise<Uint32Array | string> {
    this.#worker ??= this.#start();
    this.#tasks += 1;
    const task: EncoderTask = { id: this.#tasks, work };
    const done = new Promise<Uint32Array | string>((resolve, reject) => {
      this.#pending.set(task.id, { resolve, reject });
    });
    this.#worker.postMessage(task);
    return done;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(new URL('./encoder-worker.js', import.meta.url), {
      workerData: this.#files,
    });
    worker.on('message', ({ id, result, error }: EncoderReply) => {
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (result !== undefined) pending?.resolve(result);
      else pending?.reject(new TextError('unencodable', error));
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
