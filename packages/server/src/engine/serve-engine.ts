import type { Clock } from '@bridgekeeper/bridge';
import { DeviceError } from '@bridgekeeper/device';
import {
  type Engine,
  EngineError,
  type EngineErrorCode,
  type GenerationEvent,
} from '@bridgekeeper/engine';
import { ModelError } from '@bridgekeeper/engine/models';
import { LiveRecorder } from '../live/recorder.ts';
import type { buildEngine } from './build.ts';
import type { EngineConfig } from './config/engine-config.ts';
import type { FromEngine, ToEngine } from './messages.ts';

/** Stats travel with events at most this often, and always with the last event. */
const STATS_EVERY_NS = 50e6;

/** The end of a channel at which an engine is served. */
export interface EnginePort {
  postMessage(message: FromEngine): void;
  on(event: 'message', listener: (message: ToEngine) => void): unknown;
  close(): void;
}

type Post = (message: FromEngine) => void;

/**
 * Gathers the events of one engine step into one message: threads are crossed per step, never per
 * token.
 */
class Outbox {
  readonly #engine: Engine;
  readonly #post: Post;
  readonly #nowNs: () => number;
  #events: GenerationEvent[] = [];
  #open = 0;
  #statsNs = 0;

  constructor(engine: Engine, post: Post, nowNs: () => number) {
    this.#engine = engine;
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
    const nowNs = this.#nowNs();
    const due = nowNs - this.#statsNs > STATS_EVERY_NS || this.#open === 0;
    if (due) this.#statsNs = nowNs;
    this.#post({ kind: 'events', events, stats: due ? this.#engine.stats() : undefined });
  }
}

/** What is watched is sent this often: people see no more, and the engine feels no less. */
const LIVE_EVERY_NS = 100e6;

/** Sends what the engine does while somebody watches. */
class Broadcast {
  readonly #engine: Engine;
  readonly #post: Post;
  readonly #recorder: LiveRecorder;
  readonly #clock: Clock;
  #isSending = false;

  constructor(engine: Engine, post: Post, recorder: LiveRecorder, clock: Clock) {
    this.#engine = engine;
    this.#post = post;
    this.#recorder = recorder;
    this.#clock = clock;
  }

  watch(on: boolean): void {
    this.#recorder.isWatched = on;
    if (on && !this.#isSending) void this.#send();
  }

  async #send(): Promise<void> {
    const clock = this.#clock;
    this.#isSending = true;
    while (this.#recorder.isWatched) {
      await clock.sleepUntilNs(clock.nowNs() + LIVE_EVERY_NS);
      const batch = this.#recorder.take(clock.nowNs());
      if (!this.#recorder.isWatched) continue;
      this.#post({ kind: 'live', batch, stats: this.#engine.stats() });
    }
    this.#isSending = false;
  }
}

function serve(port: EnginePort, engine: Engine, recorder: LiveRecorder, clock: Clock): void {
  const post: Post = (message) => port.postMessage(message);
  const outbox = new Outbox(engine, post, () => clock.nowNs());
  const broadcast = new Broadcast(engine, post, recorder, clock);
  void engine.failed.then((error) => {
    post({ kind: 'failed', code: error.code, message: error.message });
  });
  port.on('message', (message: ToEngine) => {
    switch (message.kind) {
      case 'submit':
        outbox.opened();
        try {
          engine.admit(message.request, outbox.add);
        } catch (error) {
          outbox.add(refusal(message.request.id, error));
        }
        break;
      case 'cancel':
        engine.cancel(message.id);
        break;
      case 'sleep':
        answer(post, engine, message.number, engine.sleep(message.request));
        break;
      case 'wake-up':
        answer(post, engine, message.number, engine.wakeUp());
        break;
      case 'watch':
        broadcast.watch(message.on);
        break;
      case 'shutdown':
        broadcast.watch(false);
        void engine.shutdown(message.graceMs).then(() => {
          post({ kind: 'ended' });
          port.close();
        });
        break;
    }
  });
}

/** Says how a sleep or a wake-up went. */
function answer(post: Post, engine: Engine, number: number, done: Promise<void>): void {
  const say = (refusal: { code: EngineErrorCode; message: string } | null) => {
    const { isAsleep } = engine;
    post({ kind: 'rested', number, refusal, isAsleep, stats: engine.stats() });
  };
  done.then(
    () => say(null),
    (error: unknown) => say({ code: codeOf(error), message: messageOf(error) }),
  );
}

/** What was checked, but came when the engine had begun to shut down. */
function refusal(id: string, error: unknown): GenerationEvent {
  const message = error instanceof EngineError ? error.message : 'the engine refused the request';
  const timing = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };
  return { id, tokens: [], finish: { reason: 'error', message, cachedTokens: 0, timing } };
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

/**
 * What the engine's thread does: builds an engine, says that it is ready or why it cannot be, and
 * serves it until it is shut down.
 */
export async function serveEngine(
  port: EnginePort,
  config: EngineConfig,
  build: typeof buildEngine,
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
    serve(port, engine, recorder, clock);
    post({ kind: 'ready', card: engine.card, stats: engine.stats() });
  } catch (error) {
    post({ kind: 'failed', code: codeOf(error), message: messageOf(error) });
    port.close();
  }
}
