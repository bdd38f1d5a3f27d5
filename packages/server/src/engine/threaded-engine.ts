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
import type { ServerClock } from '../host-clock.ts';
import type { LiveListener, LiveSource } from '../live/source.ts';
import type { EngineChannel } from './engine-channel.ts';
import type { FailureCause, FromEngine, ToEngine } from './messages.ts';
import { Watchdog } from './watchdog.ts';

type OnEvent = (event: GenerationEvent) => void;

interface Rest {
  readonly kind: 'sleep' | 'wake-up';
  resolve(): void;
  reject(error: EngineError): void;
}

/** Why an engine ended by itself. */
export interface EngineFailure {
  readonly error: EngineError;
  readonly cause: FailureCause;
}

/** How an engine is watched that could hang. */
export interface WatchdogOptions {
  readonly clock: Pick<ServerClock, 'every'>;
  /** 0: it is not watched. */
  readonly timeoutSeconds: number;
  /** Whether its steps so far may show a shorter limit; by default they may. */
  readonly learns?: boolean;
}

/**
 * The engine in a thread or process of its own, as the server sees it. Bad requests are refused
 * here, without crossing threads.
 */
export class ThreadedEngine implements EngineClient, LiveSource {
  readonly card: EngineCard;
  readonly failed: Promise<EngineError>;
  /** The same with what it came from. */
  readonly failure: Promise<EngineFailure>;
  readonly #channel: EngineChannel;
  readonly #open = new Map<string, OnEvent>();
  readonly #exited: Promise<void>;
  readonly #watchers = new Set<LiveListener>();
  #stats: EngineStats;
  #fail!: (failure: EngineFailure) => void;
  #closing = false;
  #dead = false;
  #isAsleep = false;
  /** Sleeps and wake-ups that were asked for, by number. */
  readonly #rests = new Map<number, Rest>();
  #restsMade = 0;
  readonly #watchdog: Watchdog;
  #launches: number;
  readonly #endWatch: () => void;

  constructor(
    channel: EngineChannel,
    card: EngineCard,
    stats: EngineStats,
    watch?: WatchdogOptions,
  ) {
    this.#channel = channel;
    this.card = card;
    this.#stats = stats;
    this.#launches = stats.launches;
    this.#watchdog = new Watchdog(watch?.timeoutSeconds ?? 0, watch?.learns);
    this.#endWatch = watch?.clock.every(1, () => this.#look()) ?? (() => {});
    this.failure = new Promise((resolve) => {
      this.#fail = resolve;
    });
    this.failed = this.failure.then(({ error }) => error);
    channel.on('message', (message) => this.#receive(message));
    channel.on('error', (cause) => {
      this.#die(`the engine thread failed: ${cause.message}`, 'thread', cause);
    });
    this.#exited = new Promise((resolve) => {
      channel.on('exit', (code) => {
        this.#die(`the engine thread ended with code ${code}`, 'thread', undefined);
        this.#endWatch();
        resolve();
      });
    });
  }

  /** Resolves when nothing is left of it: also one that failed gives back what it held. */
  get ended(): Promise<void> {
    return this.#exited;
  }

  /** Ends it at once, with whatever is open. */
  terminate(): void {
    this.#channel.terminate();
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
    this.#channel.postMessage(message);
  }

  /** Each second: one that has requests and does nothing for too long has failed. */
  #look(): void {
    if (this.#dead || this.#open.size === 0 || this.#rests.size > 0) {
      this.#watchdog.rested();
      return;
    }
    if (this.#watchdog.tick()) {
      const seconds = this.#watchdog.limitSeconds;
      const message = `the engine has ${this.#open.size} requests and did nothing for ${seconds} s`;
      this.#die(`${message} (--watchdog-timeout)`, 'hung', undefined);
      return;
    }
    this.#post({ kind: 'ask' });
  }

  #receive(message: FromEngine): void {
    // It may come to itself later, for requests that have gone elsewhere.
    if (this.#dead) return;
    switch (message.kind) {
      case 'events':
        this.#watchdog.heard();
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
      case 'alive':
        if (message.launches !== this.#launches) this.#watchdog.heard();
        this.#launches = message.launches;
        break;
      case 'live':
        if (message.stats !== undefined) this.#stats = message.stats;
        for (const watcher of this.#watchers) watcher(message.batch);
        break;
      case 'failed':
        this.#die(message.message, message.cause, undefined);
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
  #die(reason: string, kind: FailureCause, cause: unknown): void {
    if (this.#dead) return;
    this.#dead = true;
    const timing = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };
    const message = 'the engine failed';
    for (const id of [...this.#open.keys()]) {
      const finish = { reason: 'error', message, cachedTokens: 0, timing, isLost: true } as const;
      this.#hand({ id, tokens: [], finish });
    }
    for (const { reject } of this.#rests.values()) reject(new EngineError('engine-failed', reason));
    this.#rests.clear();
    if (this.#closing) return;
    const error = new EngineError('engine-failed', reason, undefined, { cause });
    this.#fail({ error, cause: kind });
  }
}
