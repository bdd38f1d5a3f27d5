import { Worker } from 'node:worker_threads';
import type { ChainHead, ReceiptFacts, ReceiptLinks, ReceiptSigner } from '@bridgekeeper/attest';
import { ReceiptsError } from './errors.ts';
import type { Answers, FromBook, Question, ReceiptsThreadData, ToBook } from './messages.ts';

/** Counters since start. A receipt that is issued is written a little later, or lost. */
export interface ReceiptCounts {
  readonly issued: number;
  readonly written: number;
  readonly lost: number;
}

export interface ReceiptsOptions extends ReceiptsThreadData {
  /** Told once when writing begins to fail, and for everything that is lost. */
  readonly onTrouble: (message: string) => void;
  /** Issued and not written yet: what comes beyond is lost. */
  readonly pendingMax?: number;
}

/** A burst that the disk cannot follow, or all of them while it fails. Some 20 MB. */
const PENDING_MAX = 16_384;

interface Asker {
  resolve(value: never): void;
  reject(error: Error): void;
}

/**
 * The receipts of this server, kept by a thread of its own: issuing one costs the caller a message.
 * Nothing that goes wrong there reaches an answer.
 */
export class Receipts {
  /** null: they are kept in memory and end with the process. */
  readonly path: string | null;
  readonly signer: ReceiptSigner;
  readonly #worker: Worker;
  readonly #onTrouble: (message: string) => void;
  readonly #pendingMax: number;
  readonly #askers = new Map<number, Asker>();
  readonly #exited: Promise<void>;
  readonly #counts = { issued: 0, written: 0, lost: 0 };
  #asks = 0;
  #isTroubled = false;
  #isGone = false;
  #isClosing = false;

  private constructor(worker: Worker, key: string, options: ReceiptsOptions) {
    const { path, onTrouble, pendingMax = PENDING_MAX } = options;
    this.path = path;
    this.#worker = worker;
    this.#onTrouble = onTrouble;
    this.#pendingMax = pendingMax;
    this.signer = { key, sign: (message) => this.#ask({ kind: 'sign', message }) };
    worker.on('message', (message: FromBook) => this.#receive(message));
    worker.on('error', (error) => this.#die(error));
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        this.#die(new Error('its thread ended'));
        resolve();
      });
    });
  }

  /** Starts the thread. Throws ReceiptsError, with nothing left behind. */
  static open(options: ReceiptsOptions): Promise<Receipts> {
    const { path, retention, nowSeconds } = options;
    const workerData: ReceiptsThreadData = { path, retention, nowSeconds };
    const worker = new Worker(new URL('./receipts-worker.js', import.meta.url), { workerData });
    return new Promise((resolve, reject) => {
      const fail = (cause?: Error) => {
        const why = cause === undefined ? 'its thread ended' : cause.message;
        reject(new ReceiptsError('failed', `receipts cannot be kept: ${why}`, { cause }));
      };
      worker.once('error', fail);
      worker.once('exit', () => fail());
      worker.once('message', (message: FromBook) => {
        worker.off('error', fail);
        if (message.kind === 'ready') resolve(new Receipts(worker, message.key, options));
        else if (message.kind === 'refused')
          reject(new ReceiptsError(message.code, message.message));
        else fail();
      });
    });
  }

  get counts(): ReceiptCounts {
    return { ...this.#counts };
  }

  /** Hands an answer's facts on. Never throws. */
  issue(facts: ReceiptFacts, tenant: string): void {
    const { issued, written, lost } = this.#counts;
    this.#counts.issued += 1;
    if (this.#isGone || issued - written - lost >= this.#pendingMax) this.#lose(1);
    else this.#post({ kind: 'issue', draft: { facts, tenant } });
  }

  /** A tenant's own receipt, as JSON text. Rejects with ReceiptsError 'failed'. */
  find(id: string, tenant: string): Promise<string | null> {
    return this.#ask({ kind: 'find', id, tenant });
  }

  /** Up to `count` links from `first` on, as far as they are kept. Rejects likewise. */
  links(first: number, count: number): Promise<ReceiptLinks> {
    return this.#ask({ kind: 'links', first, count });
  }

  /** Where the chain ends, after all that was issued so far. Rejects likewise. */
  head(): Promise<ChainHead> {
    return this.#ask({ kind: 'head' });
  }

  /** Deletes what has become too old. */
  prune(nowSeconds: number): void {
    if (!this.#isGone) this.#post({ kind: 'prune', nowSeconds });
  }

  /** Writes what was issued, and ends. */
  async close(): Promise<void> {
    if (!this.#isGone && !this.#isClosing) this.#post({ kind: 'close' });
    this.#isClosing = true;
    await this.#exited;
  }

  #post(message: ToBook): void {
    this.#worker.postMessage(message);
  }

  #ask<K extends Question['kind']>(question: Extract<Question, { kind: K }>): Promise<Answers[K]> {
    if (this.#isGone || this.#isClosing) return Promise.reject(gone());
    this.#asks += 1;
    const ask = this.#asks;
    return new Promise<Answers[K]>((resolve, reject) => {
      this.#askers.set(ask, { resolve, reject });
      this.#post({ kind: 'ask', ask, question });
    });
  }

  #receive(message: FromBook): void {
    if (message.kind === 'answer') {
      const asker = this.#askers.get(message.ask);
      this.#askers.delete(message.ask);
      asker?.resolve(message.value as never);
    } else if (message.kind === 'wrote') {
      const { written, trouble } = message.result;
      this.#counts.written += written;
      if (trouble !== null && !this.#isTroubled) {
        this.#onTrouble(`receipts cannot be written, and wait: ${trouble}`);
      }
      this.#isTroubled = trouble !== null;
    }
  }

  #lose(count: number): void {
    if (this.#counts.lost === 0) this.#onTrouble('receipts are being lost: see the metrics');
    this.#counts.lost += count;
  }

  #die(error: Error): void {
    if (this.#isGone) return;
    this.#isGone = true;
    for (const { reject } of this.#askers.values()) reject(gone());
    this.#askers.clear();
    const { issued, written, lost } = this.#counts;
    if (!this.#isClosing) this.#onTrouble(`receipts are no longer kept: ${error.message}`);
    if (issued > written + lost) this.#lose(issued - written - lost);
  }
}

const gone = () => new ReceiptsError('failed', 'the thread that keeps the receipts is gone');
