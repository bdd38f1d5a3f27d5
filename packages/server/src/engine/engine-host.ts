import { type Clock, InvariantError } from '@bridgekeeper/bridge';
import { DeviceError } from '@bridgekeeper/device';
import {
  type Engine,
  EngineError,
  type EngineErrorCode,
  type EngineStats,
  type GenerationEvent,
} from '@bridgekeeper/engine';
import { ModelError } from '@bridgekeeper/engine/models';
import type { ServerClock } from '../host-clock.ts';
import { LiveRecorder } from '../live/recorder.ts';
import type { buildEngine } from './build.ts';
import type { EngineConfig } from './config/engine-config.ts';
import type { FailureCause, FromEngine, ToEngine } from './messages.ts';

/** The end of a channel at which the engine is: of a thread, or of a process of its own. */
export interface HostPort {
  postMessage(message: FromEngine): void;
  on(event: 'message', listener: (message: ToEngine) => void): unknown;
  close(): void;
}

/** Stats travel with events at most this often, and always with the last event. */
const STATS_EVERY_NS = 50e6;
/** People who watch are told what it all comes to this often, where no events tell of it. */
const WATCHED_STATS_EVERY_NS = 1e9;

/** An engine's stats, as old as they may be where they are sent. */
class StatsSender {
  readonly #engine: Engine;
  #sentNs = Number.NEGATIVE_INFINITY;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** undefined: what was sent last is newer than `ageNs`. */
  olderThan(ageNs: number, nowNs: number): EngineStats | undefined {
    if (nowNs - this.#sentNs <= ageNs) return undefined;
    this.#sentNs = nowNs;
    return this.#engine.stats();
  }
}

type Post = HostPort['postMessage'];

/**
 * Gathers the events of one engine step into one message: threads are crossed per step, never per
 * token.
 */
class Outbox {
  readonly #stats: StatsSender;
  readonly #post: Post;
  readonly #nowNs: () => number;
  #events: GenerationEvent[] = [];
  #open = 0;

  constructor(stats: StatsSender, post: Post, nowNs: () => number) {
    this.#stats = stats;
    this.#post = post;
    this.#nowNs = nowNs;
  }

  opened(): void {
    this.#open += 1;
  }

  readonly add = (event: GenerationEvent): void => {
    if (this.#events.length === 0) queueMicrotask(() => this.#flush());
    this.#events.push(event);
    if (event.finish !== undefined) this.#open -= 1;
  };

  #flush(): void {
    const events = this.#events;
    this.#events = [];
    const ageNs = this.#open === 0 ? Number.NEGATIVE_INFINITY : STATS_EVERY_NS;
    const stats = this.#stats.olderThan(ageNs, this.#nowNs());
    this.#post({ kind: 'events', events, stats });
  }
}

/** What is watched is sent this often: people see no more, and the engine feels no less. */
const LIVE_EVERY_SECONDS = 0.1;

/**
 * Sends what the engine does while somebody watches. By a plain timer: the engine's own clock turns
 * the event loop for the last two milliseconds of a sleep, which ten times a second is up to 2 % of
 * the thread for a moment that nobody needs to the microsecond.
 */
class Broadcast {
  readonly #stats: StatsSender;
  readonly #recorder: LiveRecorder;
  readonly #post: Post;
  readonly #clock: Clock;
  readonly #every: ServerClock['every'];
  #stop: (() => void) | null = null;

  constructor(
    stats: StatsSender,
    recorder: LiveRecorder,
    post: Post,
    clock: Clock,
    every: ServerClock['every'],
  ) {
    this.#stats = stats;
    this.#recorder = recorder;
    this.#post = post;
    this.#clock = clock;
    this.#every = every;
  }

  watch(on: boolean): void {
    this.#recorder.isWatched = on;
    if (on) {
      this.#stop ??= this.#every(LIVE_EVERY_SECONDS, () => this.#send());
      return;
    }
    this.#stop?.();
    this.#stop = null;
  }

  #send(): void {
    const nowNs = this.#clock.nowNs();
    const stats = this.#stats.olderThan(WATCHED_STATS_EVERY_NS, nowNs);
    this.#post({ kind: 'live', batch: this.#recorder.take(nowNs), stats });
  }
}

function serve(
  engine: Engine,
  recorder: LiveRecorder,
  port: HostPort,
  clock: Clock,
  every: ServerClock['every'],
): void {
  const post: Post = (message) => port.postMessage(message);
  const stats = new StatsSender(engine);
  const outbox = new Outbox(stats, post, () => clock.nowNs());
  const broadcast = new Broadcast(stats, recorder, post, clock, every);
  let isEnding = false;
  const end = (graceMs: number) => {
    broadcast.watch(false);
    const ended = () => {
      post({ kind: 'ended' });
      port.close();
    };
    void engine.shutdown(graceMs).then(ended, ended);
  };
  void engine.failed.then((error) => {
    post({
      kind: 'failed',
      code: error.code,
      message: error.message,
      cause: causeOf(error.cause),
    });
    // What it holds of the device is given back: the next engine needs it.
    end(0);
  });
  port.on('message', (message) => {
    switch (message.kind) {
      case 'submit':
        outbox.opened();
        try {
          engine.admit(message.request, outbox.add);
        } catch (error) {
          outbox.add(refusal(message.request.id, error, isEnding));
        }
        break;
      case 'cancel':
        engine.cancel(message.id);
        break;
      case 'sleep':
        answer(engine, message.number, engine.sleep(message.request), post);
        break;
      case 'wake-up':
        answer(engine, message.number, engine.wakeUp(), post);
        break;
      case 'ask':
        post({ kind: 'alive', launches: engine.stats().launches });
        break;
      case 'watch':
        broadcast.watch(message.on);
        break;
      case 'shutdown':
        isEnding = true;
        end(message.graceMs);
        break;
    }
  });
}

/** Says how a sleep or a wake-up went. */
function answer(engine: Engine, number: number, done: Promise<void>, post: Post): void {
  const say = (refusal: { code: EngineErrorCode; message: string } | null) => {
    const { isAsleep } = engine;
    post({ kind: 'rested', number, refusal, isAsleep, stats: engine.stats() });
  };
  done.then(
    () => say(null),
    (error: unknown) => say({ code: codeOf(error), message: messageOf(error) }),
  );
}

/** What was checked, but came when the engine had begun to shut down, or had failed. */
function refusal(id: string, error: unknown, isEnding: boolean): GenerationEvent {
  const message = error instanceof EngineError ? error.message : 'the engine refused the request';
  const timing = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };
  const isLost = !isEnding && error instanceof EngineError && error.code === 'shutting-down';
  const finish = { reason: 'error', message, cachedTokens: 0, timing } as const;
  return { id, tokens: [], finish: isLost ? { ...finish, isLost } : finish };
}

/** Errors of every border below the engine, in the engine's own terms. */
function codeOf(error: unknown): EngineErrorCode {
  if (error instanceof EngineError) return error.code;
  if (error instanceof ModelError) return 'bad-model';
  if (error instanceof DeviceError && error.code === 'out-of-memory') return 'out-of-memory';
  return 'engine-failed';
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What ended an engine, by the innermost of the errors that say so. */
function causeOf(error: unknown): FailureCause {
  if (error instanceof Error && error.cause instanceof Error) {
    const inner = causeOf(error.cause);
    if (inner !== 'other') return inner;
  }
  if (error instanceof DeviceError) return error.code === 'stalled' ? 'stalled' : 'device';
  if (error instanceof InvariantError) return 'invariant';
  return error instanceof ModelError ? 'model' : 'other';
}

/** Builds the engine and serves it at this end of the channel. Says `failed` where it cannot. */
export async function hostEngine(
  port: HostPort,
  config: EngineConfig,
  build: typeof buildEngine,
  every: ServerClock['every'],
): Promise<void> {
  const post: Post = (message) => port.postMessage(message);
  const recorder = new LiveRecorder(config.bridge.value);
  try {
    const { engine, clock } = await build(config, {
      onCrossing: recorder.crossing,
      onLaunch: recorder.launch,
      onProgress: ({ bytesDone, bytesTotal }) => post({ kind: 'progress', bytesDone, bytesTotal }),
      onModel: (lines) => post({ kind: 'model', lines }),
      onPhase: (phase) => post({ kind: 'phase', phase }),
    }).finally(() => config.seal.userKey?.fill(0));
    serve(engine, recorder, port, clock, every);
    post({ kind: 'ready', card: engine.card, stats: engine.stats() });
  } catch (error) {
    post({
      kind: 'failed',
      code: codeOf(error),
      message: messageOf(error),
      cause: causeOf(error),
    });
    port.close();
  }
}
