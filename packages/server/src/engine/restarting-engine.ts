import {
  ASLEEP,
  type EngineCard,
  type EngineClient,
  EngineError,
  type EngineStats,
  type GenerationEvent,
  type GenerationRequest,
  type SleepRequest,
  seedSource,
  sumOfKvShares,
} from '@bridgekeeper/engine';
import type { ServerClock } from '../host-clock.ts';
import type { LiveListener, LiveSource } from '../live/source.ts';
import type { Logger } from '../logging/logger.ts';
import { FAILURE_CAUSES, type FailureCause } from './messages.ts';
import { RestartBudget, type RestartLimits } from './restart-budget.ts';
import type { EngineFailure, ThreadedEngine } from './threaded-engine.ts';

/**
 * What becomes of a request whose engine failed. `fail`: it ends with an error. `retry`: it waits
 * for the next engine if nothing of its answer was sent. `continue`: also if something was; then
 * the next engine computes what was sent again and goes on behind it. Either is done once: what
 * ends two engines may be the request.
 */
type RestartRequests = 'fail' | 'retry' | 'continue';

export interface RestartPolicy extends RestartLimits {
  readonly requests: RestartRequests;
}

/** What became of the engines of one server. */
export interface EngineRestarts {
  /** Engines that were started in place of one that failed. */
  readonly count: number;
  /** Failures by what they came from, those of starts included. */
  readonly failures: Readonly<Record<FailureCause, number>>;
  /** Requests that went on, or over, with the next engine. */
  readonly resumed: number;
  /** The last failure; null: there was none. */
  readonly last: {
    readonly cause: FailureCause;
    readonly message: string;
    /** Seconds since 1970. */
    readonly failedAt: number;
    /** From the failure until requests were taken again; null: they are not. */
    readonly outageSeconds: number | null;
  } | null;
}

/** Says what the engines of a server went through. */
export interface RestartSource {
  readonly restarts: EngineRestarts;
  /** Why no request is taken now; null: they are. */
  readonly restarting: { readonly reason: string; readonly retryAfterSeconds: number } | null;
  /** Runs `check` before each start; where it throws, none is made, and the server has failed. */
  checkBefore(check: () => Promise<void>): void;
}

export interface RestartingParts {
  readonly first: ThreadedEngine;
  /** Starts the next one, of the same configuration. Throws EngineError or UsageError. */
  readonly startAgain: (signal: AbortSignal) => Promise<ThreadedEngine>;
  readonly policy: RestartPolicy;
  /** Where the seeds of requests without one come from: each keeps its own over a restart. */
  readonly seed: number;
  readonly clock: Pick<ServerClock, 'nowNs' | 'sleepUntilNs' | 'unixSeconds' | 'after'>;
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

/** A request that has not ended for its client. */
interface Open {
  readonly request: GenerationRequest;
  readonly onEvent: (event: GenerationEvent) => void;
  /** Of its answer, as far as they were handed on, where they may be needed again. */
  readonly tokens: number[];
  /** Something of its answer was handed on. */
  hasBegun: boolean;
  isResumed: boolean;
  /** Nobody waits for it any more. */
  isCancelled: boolean;
  /** What ended it on an engine that failed, while it waits for the next. */
  lost: GenerationEvent | null;
}

/** An engine that has not given back what it held by then is ended, or left. */
const END_WAIT_SECONDS = 10;
const END_WAIT_NS = END_WAIT_SECONDS * 1e9;
/** What a client is told where no start has shown how long one takes. */
const RETRY_AFTER_SECONDS = 5;

/**
 * An engine that is started again when it fails. What clients see of a failure is decided by the
 * policy; whether the server lives on, by the budget. The engines are alike: one that would load
 * another model, or run under another law, is refused, since evidence speaks of the first.
 */
export class RestartingEngine implements EngineClient, LiveSource, RestartSource {
  readonly card: EngineCard;
  readonly failed: Promise<EngineError>;
  readonly #parts: RestartingParts;
  readonly #budget: RestartBudget;
  readonly #drawSeed: () => bigint;
  readonly #open = new Map<string, Open>();
  readonly #watchers = new Map<LiveListener, () => void>();
  readonly #aborted = new AbortController();
  /** Resolves when the server ends: nobody waits for a start then. */
  readonly #closing: Promise<void>;
  readonly #counts = {
    count: 0,
    resumed: 0,
    failures: Object.fromEntries(FAILURE_CAUSES.map((cause) => [cause, 0])) as Record<
      FailureCause,
      number
    >,
  };
  #last: EngineRestarts['last'] = null;
  #engine: ThreadedEngine;
  #state: 'running' | 'restarting' | 'closing' | 'ended' = 'running';
  #restarted: Promise<void> = Promise.resolve();
  /** How it is to rest, where it is. */
  #rest: SleepRequest | null = null;
  #check: () => Promise<void> = async () => {};
  #fail!: (error: EngineError) => void;

  constructor(parts: RestartingParts) {
    this.#parts = parts;
    this.#budget = new RestartBudget(parts.policy);
    this.#drawSeed = seedSource(parts.seed);
    this.#engine = parts.first;
    this.card = parts.first.card;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
    this.#closing = new Promise((resolve) => {
      this.#aborted.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    this.#follow(parts.first);
  }

  get restarts(): EngineRestarts {
    const { failures, ...counts } = this.#counts;
    return { ...counts, failures: { ...failures }, last: this.#last };
  }

  get restarting(): RestartSource['restarting'] {
    if (this.#state !== 'restarting') return null;
    const reason = `the engine failed (${this.#last?.message}) and is being started again`;
    const { loadSeconds, prepareSeconds } = this.card;
    const seconds = Math.ceil(loadSeconds + prepareSeconds);
    return { reason, retryAfterSeconds: Math.max(RETRY_AFTER_SECONDS, seconds) };
  }

  checkBefore(check: () => Promise<void>): void {
    this.#check = check;
  }

  submit(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): void {
    this.#requireRunning();
    const { sampling } = request;
    const seed = sampling.seed ?? this.#drawSeed();
    const seeded = { ...request, sampling: { ...sampling, seed } };
    const fresh = { hasBegun: false, isResumed: false, isCancelled: false, lost: null };
    const open: Open = { request: seeded, onEvent, tokens: [], ...fresh };
    this.#engine.submit(seeded, (event) => this.#receive(open, event));
    this.#open.set(request.id, open);
  }

  cancel(id: string): void {
    const open = this.#open.get(id);
    if (open !== undefined) open.isCancelled = true;
    if (open?.lost == null) this.#engine.cancel(id);
    else this.#end(open, { ...open.lost.finish!, reason: 'cancelled' });
  }

  stats(): EngineStats {
    const stats = this.#engine.stats();
    if (this.#state !== 'restarting') return stats;
    return { ...stats, running: 0, waiting: this.#open.size, kvUsage: 0 };
  }

  get isAsleep(): boolean {
    return this.#state === 'running' ? this.#engine.isAsleep : this.#rest !== null;
  }

  async sleep(request: SleepRequest): Promise<void> {
    this.#requireRunning();
    await this.#engine.sleep(request);
    this.#rest = request;
  }

  async wakeUp(): Promise<void> {
    this.#requireRunning();
    await this.#engine.wakeUp();
    this.#rest = null;
  }

  watch(listener: LiveListener): () => void {
    this.#watchers.set(listener, this.#engine.watch(listener));
    return () => {
      this.#watchers.get(listener)?.();
      this.#watchers.delete(listener);
    };
  }

  async shutdown(graceMs: number): Promise<void> {
    const wasRunning = this.#state === 'running';
    if (this.#state !== 'ended') this.#state = 'closing';
    this.#aborted.abort();
    if (wasRunning) await this.#stop(graceMs);
    else await this.#restarted;
    this.#giveUpOpen('the engine shut down before this request was done');
    this.#state = 'ended';
  }

  /** An engine that hangs would keep a server that was told to stop. */
  async #stop(graceMs: number): Promise<void> {
    const { clock, log } = this.#parts;
    const engine = this.#engine;
    let end = () => {};
    const isLeft = new Promise<void>((resolve) => {
      end = clock.after(graceMs / 1000 + END_WAIT_SECONDS, () => {
        log.warn('the engine does not end, and is ended');
        engine.terminate();
        end = clock.after(END_WAIT_SECONDS, resolve);
      });
    });
    await Promise.race([engine.shutdown(graceMs), isLeft]);
    end();
  }

  #requireRunning(): void {
    if (this.#state === 'running') return;
    if (this.#state === 'ended') throw new EngineError('engine-failed', 'the engine has failed');
    if (this.#state === 'closing') {
      throw new EngineError('shutting-down', 'the server is shutting down');
    }
    if (this.#rest !== null) throw new EngineError('asleep', ASLEEP);
    const message = 'the engine failed and is being started again: try again later';
    throw new EngineError('restarting', message);
  }

  #follow(engine: ThreadedEngine): void {
    void engine.failure.then((failure) => {
      if (this.#state === 'running') this.#restarted = this.#restart(engine, failure);
    });
  }

  #receive(open: Open, event: GenerationEvent): void {
    const { finish } = event;
    open.hasBegun ||= event.tokens.length > 0;
    if (this.#parts.policy.requests === 'continue') open.tokens.push(...event.tokens);
    if (finish === undefined) {
      open.onEvent(event);
      return;
    }
    const isKept = finish.isLost === true && this.#state === 'running' && this.#mayGoOn(open);
    if (isKept) open.lost = event;
    // An engine that hangs hears of nothing, and what was cancelled meanwhile is lost with it.
    else if (open.isCancelled && finish.isLost === true) {
      this.#end(open, { ...finish, reason: 'cancelled' }, event);
    } else this.#end(open, finish, event);
  }

  #mayGoOn({ request, hasBegun, isResumed, isCancelled }: Open): boolean {
    const { requests, restarts } = this.#parts.policy;
    if (isCancelled || isResumed || requests === 'fail' || restarts === 0) return false;
    if (!hasBegun) return true;
    return requests === 'continue' && request.sampling.promptLogprobs === undefined;
  }

  /** Its last word. What crossed for it before is added. */
  #end(
    open: Open,
    finish: NonNullable<GenerationEvent['finish']>,
    event: GenerationEvent = { id: open.request.id, tokens: [] },
  ): void {
    if (!this.#open.delete(open.request.id)) return;
    const { isLost: _, ...plain } = finish;
    const before = open.isResumed ? { isResumed: true as const } : {};
    open.onEvent({ ...event, finish: { ...plain, ...before } });
  }

  #giveUpOpen(message: string): void {
    for (const open of [...this.#open.values()]) {
      if (open.lost !== null) this.#end(open, { ...open.lost.finish!, message });
    }
  }

  async #restart(failedEngine: ThreadedEngine, { error, cause }: EngineFailure): Promise<void> {
    const { clock, log, policy } = this.#parts;
    const failedNs = clock.nowNs();
    this.#note(cause, error.message);
    if (policy.restarts === 0) {
      this.#giveUp(error, '--engine-restarts is 0');
      return;
    }
    this.#state = 'restarting';
    log.error({ cause }, `${error.message}; ${this.#open.size} requests wait for the next engine`);
    // One that hangs gives nothing back by itself.
    if (cause === 'hung') failedEngine.terminate();
    await this.#over(failedEngine);
    let reason = error;
    while (this.#state === 'restarting') {
      const waitNs = this.#budget.take(clock.nowNs());
      const nth = this.#budget.usedAt(clock.nowNs());
      const within = `within ${policy.windowSeconds} s (--engine-restarts ${policy.restarts})`;
      if (waitNs === null) {
        this.#giveUp(reason, `it was started ${nth} times ${within}`);
        return;
      }
      log.warn(`starting the engine again in ${waitNs / 1e9} s: start ${nth} ${within}`);
      await Promise.race([clock.sleepUntilNs(clock.nowNs() + waitNs), this.#closing]);
      if (!this.#isRestarting) break;
      const other = await this.#otherThanBefore();
      if (other !== null) {
        this.#giveUp(reason, other);
        return;
      }
      try {
        await this.#goOn(await this.#parts.startAgain(this.#aborted.signal), failedNs);
        return;
      } catch (thrown) {
        if (!this.#isRestarting) break;
        const message = messageOf(thrown);
        this.#note(causeOfStart(thrown), message);
        reason = new EngineError('engine-failed', message, undefined, { cause: thrown });
        log.error(`the engine could not be started again: ${message}`);
      }
    }
  }

  get #isRestarting(): boolean {
    return this.#state === 'restarting';
  }

  async #otherThanBefore(): Promise<string | null> {
    try {
      await this.#check();
      return null;
    } catch (error) {
      return messageOf(error);
    }
  }

  /** Until what failed is gone, and its memory with it, or is taken to be stuck. */
  async #over(engine: ThreadedEngine): Promise<void> {
    const { clock, log } = this.#parts;
    let isOver = false;
    const ended = engine.ended.then(() => {
      isOver = true;
    });
    const wait = () => Promise.race([ended, clock.sleepUntilNs(clock.nowNs() + END_WAIT_NS)]);
    await wait();
    if (isOver) return;
    engine.terminate();
    await wait();
    if (!isOver) log.warn('the engine that failed does not end, and keeps what it holds');
  }

  async #goOn(engine: ThreadedEngine, failedNs: number): Promise<void> {
    const { clock, log } = this.#parts;
    try {
      requireAlike(engine.card, this.card);
      if (this.#rest !== null) await engine.sleep({ ...this.#rest, mode: 'abort' });
    } catch (error) {
      await engine.shutdown(0);
      throw error;
    }
    if (!this.#isRestarting) {
      await engine.shutdown(0);
      return;
    }
    this.#engine = engine;
    this.#counts.count += 1;
    const outageSeconds = (clock.nowNs() - failedNs) / 1e9;
    if (this.#last !== null) this.#last = { ...this.#last, outageSeconds };
    this.#state = 'running';
    this.#follow(engine);
    for (const listener of this.#watchers.keys()) {
      this.#watchers.set(listener, engine.watch(listener));
    }
    const resumed = this.#resubmit();
    log.info(
      `the engine runs again after ${outageSeconds.toFixed(2)} s; ${resumed} requests go on with ` +
        'it; KV and cached prefixes of before are gone',
    );
  }

  #resubmit(): number {
    let resumed = 0;
    for (const open of [...this.#open.values()]) {
      const { lost, request, tokens } = open;
      if (lost === null) continue;
      open.lost = null;
      open.isResumed = true;
      const again =
        tokens.length === 0 ? request : { ...request, priorTokens: Uint32Array.from(tokens) };
      try {
        this.#engine.submit(again, (event) => this.#receive(open, withEarlier(event, lost.finish)));
        resumed += 1;
      } catch {
        this.#end(open, lost.finish!);
      }
    }
    this.#counts.resumed += resumed;
    return resumed;
  }

  #giveUp(error: EngineError, why: string): void {
    this.#state = 'ended';
    const message = `${error.message}; the engine is not started again: ${why}`;
    this.#fail(new EngineError('engine-failed', message, undefined, { cause: error }));
    this.#giveUpOpen('the engine failed');
  }

  #note(cause: FailureCause, message: string): void {
    this.#counts.failures[cause] += 1;
    const failedAt = this.#parts.clock.unixSeconds();
    this.#last = { cause, message, failedAt, outageSeconds: null };
  }
}

/** What the request took of the engine that was lost counts as well. */
function withEarlier(event: GenerationEvent, lost: GenerationEvent['finish']): GenerationEvent {
  const { finish } = event;
  if (finish === undefined || lost === undefined) return event;
  const crossings = [...(lost.crossings ?? []), ...(finish.crossings ?? [])];
  const kv = sumOfKvShares([...(lost.kv ?? []), ...(finish.kv ?? [])]);
  const known = {
    ...(crossings.length > 0 && { crossings }),
    ...(kv.length > 0 && { kv }),
  };
  return { ...event, finish: { ...finish, ...known } };
}

/** Evidence and checked requests speak of the first engine. Throws EngineError `bad-model`. */
function requireAlike(next: EngineCard, first: EngineCard): void {
  const differing = (
    ['sealRoot', 'architecture', 'vocabularySize', 'law', 'policy', 'task'] as const
  )
    .filter((name) => next[name] !== first[name])
    .join(', ');
  const isSmaller =
    next.maxModelTokens < first.maxModelTokens || next.grammarBytes < first.grammarBytes;
  if (differing === '' && !isSmaller) return;
  const what = isSmaller ? 'its context' : differing;
  throw new EngineError('bad-model', `the engine came up with another model or limits: ${what}`);
}

function causeOfStart(thrown: unknown): FailureCause {
  if (!(thrown instanceof EngineError)) return 'other';
  if (thrown.code === 'bad-model') return 'model';
  return thrown.code === 'out-of-memory' ? 'device' : 'other';
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
