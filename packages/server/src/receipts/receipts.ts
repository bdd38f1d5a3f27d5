import { Worker } from 'node:worker_threads';
import type { ChainHead, ReceiptFacts, ReceiptLinks, ReceiptSigner } from '@bridgekeeper/attest';
import type { ServerClock } from '../host-clock.ts';
import { ReceiptsError } from './errors.ts';
import type { Answers, FromBook, Question, ReceiptsThreadData, ToBook } from './messages.ts';
import { type OwnedFile, type OwnOptions, own } from './owner.ts';
import type { Retention } from './store.ts';

/**
 * Counters since start. A receipt that is issued is written a little later; lost are those that
 * were promised and could not be written to the end; withheld, answers that were promised none.
 */
export interface ReceiptCounts {
  readonly issued: number;
  readonly written: number;
  readonly lost: number;
  readonly withheld: number;
}

interface Awaited {
  readonly path: string;
  readonly retention: Retention;
}

export interface ReceiptsOptions extends Omit<OwnOptions, 'clock'> {
  /** null: in memory, with a key that ends with the process. */
  readonly path: string | null;
  readonly retention: Retention;
  readonly clock: Pick<ServerClock, 'nowNs' | 'sleepUntilNs' | 'every'>;
  /** With `path` null: the file that they move to, once no other process has it. */
  readonly awaited?: Awaited;
  /** Told once when writing begins to fail, when it works again, and when some are lost. */
  readonly onTrouble: (message: string) => void;
  /** With more than these issued and not written yet, none is promised. */
  readonly pendingMax?: number;
  /** By default a thread of its own. */
  readonly startThread?: (data: ReceiptsThreadData) => ReceiptsThread;
}

/** What keeps the receipts (`keepReceipts`), as its user has it: a `Worker`, or alike. */
export interface ReceiptsThread {
  postMessage(message: ToBook): void;
  on(event: 'message', listener: (message: FromBook) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  once(event: 'message', listener: (message: FromBook) => void): unknown;
  once(event: 'error', listener: (error: Error) => void): unknown;
  once(event: 'exit', listener: () => void): unknown;
  off(event: 'error' | 'exit', listener: () => void): unknown;
}

/** A burst that the disk cannot follow. Some 20 MB. */
const PENDING_MAX = 16_384;
const SECONDS_OF_AN_HOUR = 3600;
/** Between two looks at whether receipts can be written. */
const SECONDS_TO_RETRY = 1;
/** Looks without an answer after which the disk is taken not to give one. */
const SILENT_LOOKS = 15;
/** The same when the server ends: what is given up then is lost. */
const SILENT_LOOKS_AT_END = 30;

interface Asker {
  resolve(value: never): void;
  reject(error: Error): void;
}

/**
 * The receipts of this server, kept by a thread of its own: issuing one costs the caller a message.
 * Nothing that goes wrong there reaches an answer: answers that begin meanwhile name no receipt.
 */
export class Receipts {
  #path: string | null;
  #signer: ReceiptSigner;
  /** Where they move from memory, once that is free. */
  #awaited: Awaited | null;
  readonly #thread: ReceiptsThread;
  readonly #onTrouble: (message: string) => void;
  readonly #pendingMax: number;
  readonly #askers = new Map<number, Asker>();
  readonly #exited: Promise<void>;
  readonly #counts = { issued: 0, written: 0, lost: 0, withheld: 0 };
  readonly #endUpkeep: () => void;
  #asks = 0;
  #looks = 0;
  readonly #silence: Promise<void>;
  #giveUp!: () => void;
  #isTroubled = false;
  #isGone = false;
  #isClosing = false;

  private constructor(
    thread: ReceiptsThread,
    key: string,
    owned: OwnedFile | null,
    options: ReceiptsOptions,
  ) {
    const { path, clock, awaited = null, onTrouble, pendingMax = PENDING_MAX } = options;
    this.#path = path;
    this.#awaited = awaited;
    this.#thread = thread;
    this.#onTrouble = onTrouble;
    this.#pendingMax = pendingMax;
    this.#signer = this.#signerOf(key);
    const upkeep = [
      clock.every(SECONDS_TO_RETRY, () => {
        this.#listen();
        this.#post({ kind: 'write' });
        if (this.#awaited === null) return;
        const { path, retention } = this.#awaited;
        this.#post({ kind: 'move', path, retention });
      }),
      // Hours of running, not a difference of times: a clock that jumps makes nothing older.
      clock.every(SECONDS_OF_AN_HOUR, () => {
        this.#post({ kind: 'age', seconds: SECONDS_OF_AN_HOUR });
      }),
    ];
    this.#endUpkeep = () => {
      for (const end of upkeep) end();
      owned?.release();
    };
    this.#silence = new Promise((resolve) => {
      this.#giveUp = resolve;
    });
    thread.on('message', (message) => this.#receive(message));
    thread.on('error', (error) => this.#die(error));
    this.#exited = new Promise((resolve) => {
      thread.once('exit', () => {
        this.#die(new Error('its thread ended'));
        resolve();
      });
    });
  }

  /** Owns the file and starts the thread. Throws ReceiptsError, with nothing left running. */
  static async open(options: ReceiptsOptions): Promise<Receipts> {
    const { path, retention, startThread = startWorker } = options;
    const owned = path === null ? null : await own(path, options);
    const file = owned === null ? null : { path: owned.path, givenPath: path! };
    try {
      const thread = startThread({ file, retention });
      return new Receipts(thread, await keyOf(thread), owned, options);
    } catch (error) {
      owned?.release();
      throw error;
    }
  }

  /** null: they are kept in memory and end with the process. */
  get path(): string | null {
    return this.#path;
  }

  /** Of the chain that is written now. One that was had before goes on to sign for its own. */
  get signer(): ReceiptSigner {
    return this.#signer;
  }

  /** Where they move from memory, once no other process has it; null: nowhere. */
  get awaitedPath(): string | null {
    return this.#awaited?.path ?? null;
  }

  #signerOf(key: string): ReceiptSigner {
    return { key, sign: (message) => this.#ask({ kind: 'sign', key, message }) };
  }

  get counts(): ReceiptCounts {
    return { ...this.#counts };
  }

  /**
   * Whether an answer that begins now may name a receipt: it will be kept unless the disk or this
   * process fails before it is written, a moment after the answer. Counts the answers that may not.
   */
  promise(): boolean {
    const { issued, written, lost } = this.#counts;
    const isFull = issued - written - lost >= this.#pendingMax;
    const isPromised = !this.#isGone && !this.#isClosing && !this.#isTroubled && !isFull;
    if (!isPromised) this.#counts.withheld += 1;
    return isPromised;
  }

  /** Hands on the facts of an answer that was promised a receipt. Never throws. */
  issue(facts: ReceiptFacts, tenant: string): void {
    this.#counts.issued += 1;
    if (this.#isGone) this.#lose(1);
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

  /**
   * Where the chain ends, after all that was issued so far; of a chain before this one, where it
   * ended. Rejects likewise.
   */
  head(key: string = this.#signer.key): Promise<ChainHead> {
    return this.#ask({ kind: 'head', key });
  }

  /**
   * A disk that does not answer keeps its thread and no other: answers that begin now name no
   * receipt, and nobody waits for it when the server ends.
   */
  #listen(): void {
    this.#looks += 1;
    if (this.#looks <= SILENT_LOOKS) return;
    this.#trouble('the disk does not answer');
    if (!this.#isClosing || this.#looks <= SILENT_LOOKS_AT_END) return;
    this.#die(new Error('the disk does not answer'));
    this.#giveUp();
  }

  /** Writes what was issued, and ends. */
  async close(): Promise<void> {
    if (!this.#isGone && !this.#isClosing) this.#post({ kind: 'close' });
    this.#isClosing = true;
    await Promise.race([this.#exited, this.#silence]);
  }

  #post(message: ToBook): void {
    this.#thread.postMessage(message);
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
    this.#looks = 0;
    if (message.kind === 'answer') {
      const asker = this.#askers.get(message.ask);
      this.#askers.delete(message.ask);
      asker?.resolve(message.value as never);
    } else if (message.kind === 'unanswered') {
      const asker = this.#askers.get(message.ask);
      this.#askers.delete(message.ask);
      const why = `the receipts cannot be read now: ${message.message}`;
      asker?.reject(new ReceiptsError('failed', why));
    } else if (message.kind === 'moved') {
      const { path, key, count } = message;
      this.#awaited = null;
      this.#path = path;
      this.#signer = this.#signerOf(key);
      this.#onTrouble(`receipts: ${path} is free: ${count} moved there from memory, under its key`);
    } else if (message.kind === 'refused') {
      // Asking again changes nothing.
      this.#awaited = null;
      this.#onTrouble(`receipts stay in memory and end with this process: ${message.message}`);
    } else if (message.kind === 'wrote') {
      const { written, trouble } = message.result;
      this.#counts.written += written;
      this.#trouble(trouble);
    }
  }

  /** null: it is over. */
  #trouble(trouble: string | null): void {
    const isTroubled = trouble !== null;
    if (isTroubled === this.#isTroubled) return;
    this.#isTroubled = isTroubled;
    this.#onTrouble(
      isTroubled
        ? `receipts cannot be written, and wait; answers name none until they can: ${trouble}`
        : 'receipts are written again',
    );
  }

  #lose(count: number): void {
    if (this.#counts.lost === 0) this.#onTrouble('receipts are being lost: see the metrics');
    this.#counts.lost += count;
  }

  #die(error: Error): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#endUpkeep();
    for (const { reject } of this.#askers.values()) reject(gone());
    this.#askers.clear();
    const { issued, written, lost } = this.#counts;
    if (!this.#isClosing) this.#onTrouble(`receipts are no longer kept: ${error.message}`);
    if (issued > written + lost) this.#lose(issued - written - lost);
  }
}

const gone = () => new ReceiptsError('failed', 'the thread that keeps the receipts is gone');

function startWorker(workerData: ReceiptsThreadData): ReceiptsThread {
  return new Worker(new URL('./receipts-worker.js', import.meta.url), { workerData });
}

/** The public key with which a thread that was just started signs. Rejects with ReceiptsError. */
function keyOf(thread: ReceiptsThread): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (cause?: Error) => {
      const why = cause === undefined ? 'its thread ended' : cause.message;
      reject(new ReceiptsError('failed', `receipts cannot be kept: ${why}`, { cause }));
    };
    const ended = () => fail();
    thread.once('error', fail);
    thread.once('exit', ended);
    thread.once('message', (message) => {
      thread.off('error', fail);
      thread.off('exit', ended);
      if (message.kind === 'ready') resolve(message.key);
      else if (message.kind === 'refused') reject(new ReceiptsError(message.code, message.message));
      else fail();
    });
  });
}
