import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { CompiledGrammar } from '@bridgekeeper/engine';
import { GrammarError } from '@bridgekeeper/engine/grammar';
import type { ServerClock } from '../host-clock.ts';
import { ApiError } from '../http/errors.ts';
import type { GrammarTask, WorkerReply, WorkerTask } from './task.ts';

export interface GrammarLimits {
  /** Of one compilation, on the clock; what is counted ends most of them long before. */
  readonly seconds: number;
  /** Of compiled grammars that are kept. */
  readonly cacheBytes: number;
  /** Compilations of one tenant that wait. */
  readonly waitingPerTenant: number;
  /** Of the worker's heap. */
  readonly heapMegabytes: number;
}

export const GRAMMAR_LIMITS: GrammarLimits = {
  seconds: 10,
  cacheBytes: 256 * 2 ** 20,
  waitingPerTenant: 64,
  heapMegabytes: 1024,
};

/** Since start. */
export interface GrammarCounts {
  readonly compiled: number;
  /** Requests whose grammar had been compiled before. */
  readonly found: number;
  readonly refused: number;
  readonly heldBytes: number;
}

interface Job {
  readonly key: string;
  readonly tenant: string;
  readonly task: GrammarTask;
  /** Requests for the same grammar wait for one compilation. */
  readonly waiters: Waiter[];
}

interface Waiter {
  resolve(grammar: CompiledGrammar): void;
  reject(error: Error): void;
}

/**
 * Compiles what clients write, in a thread of its own that is ended where it takes too long. What
 * was compiled is kept, the least recently used given up first, and found again by the same tenant
 * alone: how long a request takes says nothing of others' grammars. Tenants take turns.
 */
export class GrammarService {
  readonly #clock: Pick<ServerClock, 'after'>;
  readonly #limits: GrammarLimits;
  /** The least recently used first. */
  readonly #kept = new Map<string, CompiledGrammar>();
  readonly #open = new Map<string, Job>();
  /** By tenant, whoever was served longest ago first. */
  readonly #waiting = new Map<string, Job[]>();
  readonly #counts = { compiled: 0, found: 0, refused: 0, heldBytes: 0 };
  #worker: Worker | undefined;
  #running: Job | undefined;
  #cancelTimer: () => void = () => {};
  #tasks = 0;

  constructor(clock: Pick<ServerClock, 'after'>, limits: GrammarLimits = GRAMMAR_LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get counts(): GrammarCounts {
    return this.#counts;
  }

  /** Throws GrammarError, and ApiError `queue_full`. */
  compile(tenant: string, task: GrammarTask): Promise<CompiledGrammar> {
    const key = keyOf(tenant, task);
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#counts.found += 1;
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return Promise.resolve(kept);
    }
    const open = this.#open.get(key);
    if (open !== undefined) {
      this.#counts.found += 1;
      return new Promise((resolve, reject) => open.waiters.push({ resolve, reject }));
    }
    const waiting = this.#waiting.get(tenant) ?? [];
    if (waiting.length >= this.#limits.waitingPerTenant) {
      throw new ApiError('queue_full', 'Too many grammars of this key wait to be compiled.');
    }
    return new Promise((resolve, reject) => {
      const job: Job = { key, tenant, task, waiters: [{ resolve, reject }] };
      this.#open.set(key, job);
      this.#waiting.set(tenant, [...waiting, job]);
      this.#next();
    });
  }

  async close(): Promise<void> {
    this.#cancelTimer();
    const worker = this.#worker;
    this.#worker = undefined;
    for (const job of this.#open.values()) {
      rejectAll(job, new ApiError('shutting_down', 'The server is ending.'));
    }
    this.#open.clear();
    this.#waiting.clear();
    await worker?.terminate();
  }

  #next(): void {
    if (this.#running !== undefined) return;
    const [turn] = this.#waiting;
    if (turn === undefined) return;
    const [tenant, [job, ...rest]] = turn;
    this.#waiting.delete(tenant);
    if (rest.length > 0) this.#waiting.set(tenant, rest);
    if (job === undefined) return;
    this.#running = job;
    this.#worker ??= this.#start();
    this.#tasks += 1;
    const message: WorkerTask = { id: this.#tasks, task: job.task };
    this.#worker.postMessage(message);
    const { seconds } = this.#limits;
    this.#cancelTimer = this.#clock.after(seconds, () => {
      this.#giveUp(`it takes longer than ${seconds} s to compile`);
    });
  }

  #start(): Worker {
    const { heapMegabytes } = this.#limits;
    const worker = new Worker(new URL('./grammar-worker.js', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: heapMegabytes },
    });
    worker.on('message', (reply: WorkerReply) => {
      if (this.#worker === worker) this.#receive(reply);
    });
    // An error is always followed by an exit.
    worker.on('error', (error) => this.#lose(worker, error));
    worker.on('exit', () => this.#lose(worker, new Error('the compiler of grammars ended')));
    worker.unref();
    return worker;
  }

  #receive(reply: WorkerReply): void {
    const job = this.#running;
    if (job === undefined) return;
    this.#finish();
    if ('code' in reply) {
      this.#counts.refused += 1;
      rejectAll(job, new GrammarError(reply.code, reply.message));
    } else {
      this.#counts.compiled += 1;
      const digest = createHash('sha256').update(reply.words).digest('hex');
      const grammar = { digest, words: reply.words };
      this.#keep(job.key, grammar);
      for (const { resolve } of job.waiters) resolve(grammar);
    }
    this.#next();
  }

  #finish(): void {
    this.#cancelTimer();
    if (this.#running !== undefined) this.#open.delete(this.#running.key);
    this.#running = undefined;
  }

  /** The next grammar starts a new worker. */
  #lose(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const isMemory = (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY';
    if (isMemory) {
      this.#refuseRunning('it takes more memory to compile than there is');
      return;
    }
    const job = this.#running;
    this.#finish();
    if (job !== undefined) rejectAll(job, error);
    this.#next();
  }

  #giveUp(why: string): void {
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
    this.#refuseRunning(why);
  }

  #refuseRunning(why: string): void {
    const job = this.#running;
    this.#finish();
    this.#counts.refused += 1;
    if (job !== undefined) {
      rejectAll(job, new GrammarError('too-large', `the grammar is too large: ${why}`));
    }
    this.#next();
  }

  #keep(key: string, grammar: CompiledGrammar): void {
    const { cacheBytes } = this.#limits;
    if (grammar.words.byteLength > cacheBytes) return;
    this.#kept.set(key, grammar);
    this.#counts.heldBytes += grammar.words.byteLength;
    for (const [oldest, { words }] of this.#kept) {
      if (this.#counts.heldBytes <= cacheBytes) break;
      this.#kept.delete(oldest);
      this.#counts.heldBytes -= words.byteLength;
    }
  }
}

function rejectAll({ waiters }: Job, error: Error): void {
  for (const { reject } of waiters) reject(error);
}

function keyOf(tenant: string, task: GrammarTask): string {
  const text = JSON.stringify([tenant, task], (_, value: unknown) =>
    value instanceof Map ? [...value] : value,
  );
  return createHash('sha256').update(text).digest('hex');
}
