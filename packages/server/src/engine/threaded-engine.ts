import type { Worker } from 'node:worker_threads';
import {
  ASLEEP,
  checkRequest,
  type EngineCard,
  type EngineClient,
  EngineError,
  type EngineStats,
  type GenerationEvent,
  type GenerationRequest,
  type SleepRequest,
} from '@bridgekeeper/engine';
import type { LiveListener, LiveSource } from '../live/source.ts';
import type { FromEngine, ToEngine } from './messages.ts';

type OnEvent = (event: GenerationEvent) => void;

interface Rest {
  readonly kind: 'sleep' | 'wake-up';
  resolve(): void;
  reject(error: EngineError): void;
}

/**
 * The engine in a thread of its own, as the server sees it. Bad requests are refused here, without
 * crossing threads.
 */
export class ThreadedEngine implements EngineClient, LiveSource {
  readonly card: EngineCard;
  readonly failed: Promise<EngineError>;
  readonly #worker: Worker;
  readonly #open = new Map<string, OnEvent>();
  readonly #exited: Promise<void>;
  readonly #watchers = new Set<LiveListener>();
  #stats: EngineStats;
  #fail!: (error: EngineError) => void;
  #closing = false;
  #dead = false;
  #isAsleep = false;
  /** Sleeps and wake-ups that were asked for, by number. */
  readonly #rests = new Map<number, Rest>();
  #restsMade = 0;

  constructor(worker: Worker, card: EngineCard, stats: EngineStats) {
    this.#worker = worker;
    this.card = card;
    this.#stats = stats;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    worker.on('message', (message: FromEngine) => this.#receive(message));
    worker.on('error', (cause) => this.#die(`the engine thread failed: ${cause.message}`, cause));
    this.#exited = new Promise((resolve) => {
      worker.once('exit', (code) => {
        this.#die(`the engine thread ended with code ${code}`, undefined);
        resolve();
      });
    });
  }

  submit(request: GenerationRequest, onEvent: OnEvent): void {
    if (this.#dead) throw new EngineError('engine-failed', 'the engine has failed');
    if (this.#closing) throw new EngineError('shutting-down', 'the server is shutting down');
    if (this.isAsleep) throw new EngineError('asleep', ASLEEP);
    const checked = checkRequest(request, this.card, this.#open);
    this.#open.set(request.id, onEvent);
    this.#post({ kind: 'submit', request: checked });
  }

  cancel(id: string): void {
    if (this.#open.has(id)) this.#post({ kind: 'cancel', id });
  }

  stats(): EngineStats {
    return this.#stats;
  }

  get isAsleep(): boolean {
    return this.#isAsleep || [...this.#rests.values()].some(({ kind }) => kind === 'sleep');
  }

  /** Tells of what the engine does, about ten times a second, until what it returns is called. */
  watch(listener: LiveListener): () => void {
    this.#watchers.add(listener);
    if (this.#watchers.size === 1) this.#post({ kind: 'watch', on: true });
    return () => {
      if (!this.#watchers.delete(listener) || this.#watchers.size > 0) return;
      this.#post({ kind: 'watch', on: false });
    };
  }

  sleep(request: SleepRequest): Promise<void> {
    return this.#rest('sleep', (number) => ({ kind: 'sleep', number, request }));
  }

  wakeUp(): Promise<void> {
    return this.#rest('wake-up', (number) => ({ kind: 'wake-up', number }));
  }

  #rest(kind: Rest['kind'], message: (number: number) => ToEngine): Promise<void> {
    if (this.#dead || this.#closing) {
      return Promise.reject(new EngineError('shutting-down', 'the server is shutting down'));
    }
    return new Promise((resolve, reject) => {
      const number = this.#restsMade++;
      this.#rests.set(number, { kind, resolve, reject });
      this.#post(message(number));
    });
  }

  async shutdown(graceMs: number): Promise<void> {
    // An engine that has failed still has its thread, which would never end by itself.
    if (!this.#closing) this.#post({ kind: 'shutdown', graceMs });
    this.#closing = true;
    await this.#exited;
  }

  #post(message: ToEngine): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromEngine): void {
    switch (message.kind) {
      case 'events':
        if (message.stats !== undefined) this.#stats = message.stats;
        for (const event of message.events) this.#hand(event);
        break;
      case 'rested': {
        const { number, refusal, isAsleep, stats } = message;
        const rest = this.#rests.get(number)!;
        this.#rests.delete(number);
        this.#isAsleep = isAsleep;
        this.#stats = stats;
        if (refusal === null) rest.resolve();
        else rest.reject(new EngineError(refusal.code, refusal.message));
        break;
      }
      case 'live':
        this.#stats = message.stats;
        for (const watcher of this.#watchers) watcher(message.batch);
        break;
      case 'failed':
        this.#die(message.message, undefined);
        break;
      case 'ended':
      case 'progress':
      case 'ready':
        break;
    }
  }

  #hand(event: GenerationEvent): void {
    const onEvent = this.#open.get(event.id);
    if (event.finish !== undefined) this.#open.delete(event.id);
    onEvent?.(event);
  }

  /**
   * Ends what is open with `error`, once. After a shutdown nothing is open, and the exit
   * fails no request.
   */
  #die(reason: string, cause: unknown): void {
    if (this.#dead) return;
    this.#dead = true;
    const timing = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };
    const message = 'the engine failed';
    for (const id of [...this.#open.keys()]) {
      this.#hand({ id, tokens: [], finish: { reason: 'error', message, cachedTokens: 0, timing } });
    }
    for (const { reject } of this.#rests.values()) reject(new EngineError('engine-failed', reason));
    this.#rests.clear();
    if (!this.#closing) this.#fail(new EngineError('engine-failed', reason, undefined, { cause }));
  }
}
