import { Worker } from 'node:worker_threads';
import type { ModelFiles } from '@bridgekeeper/engine/models';
import { TextError, type Tokenizer } from '@bridgekeeper/engine/text';
import type { EncodeReply, EncodeTask } from './encoder-worker.ts';

/** Longer texts are encoded elsewhere. About a millisecond's work. */
const INLINE_CHARACTERS = 2048;

interface Pending {
  resolve(tokens: Uint32Array): void;
  reject(error: Error): void;
}

/**
 * Encodes text without holding up the thread that serves everybody: short texts at once, long ones
 * in a worker with a tokenizer of its own, which starts with the first long text.
 */
export class Encoder {
  readonly #files: ModelFiles;
  readonly #tokenizer: Tokenizer;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #tasks = 0;

  constructor(files: ModelFiles, tokenizer: Tokenizer) {
    this.#files = files;
    this.#tokenizer = tokenizer;
  }

  /** Throws TextError `unencodable`. */
  async encode(text: string, addSpecialTokens: boolean): Promise<Uint32Array> {
    if (text.length <= INLINE_CHARACTERS) return this.#tokenizer.encode(text, addSpecialTokens);
    this.#worker ??= this.#start();
    this.#tasks += 1;
    const task: EncodeTask = { id: this.#tasks, text, addSpecialTokens };
    const done = new Promise<Uint32Array>((resolve, reject) => {
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
    worker.on('message', ({ id, tokens, error }: EncodeReply) => {
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (tokens !== undefined) pending?.resolve(tokens);
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
