import type { EngineError } from '@bridgekeeper/engine';
import { ApiError, toApiError } from './errors.ts';

/** An answer that is being given. */
interface OpenAnswer {
  /** Resolves when it has ended; never rejects. */
  readonly settled: Promise<unknown>;
  /** Ends it with `error`. */
  fail(error: ApiError): void;
}

export type Health = 'ready' | 'restarting' | 'stopping' | 'failed';

/** What the engine says of itself. */
export interface EngineState {
  isAsleep(): boolean;
  /** Why it takes no requests until it was started again; null: it was not lost. */
  restarting(): { readonly reason: string; readonly retryAfterSeconds: number } | null;
}

const AT_WORK: EngineState = { isAsleep: () => false, restarting: () => null };

/** Whether the server takes work, and which answers are open. */
export class Lifecycle {
  #failure: EngineError | undefined;
  #stopping = false;
  readonly #open = new Set<OpenAnswer>();
  readonly #engine: EngineState;

  constructor(engine: EngineState = AT_WORK) {
    this.#engine = engine;
  }

  get health(): Health {
    if (this.#failure !== undefined) return 'failed';
    if (this.#stopping) return 'stopping';
    return this.#engine.restarting() === null ? 'ready' : 'restarting';
  }

  /** Why no work is taken, and when it may be again where that is known; null: it is. */
  get trouble(): { readonly reason: string; readonly retryAfterSeconds?: number } | null {
    if (this.#failure !== undefined) return { reason: this.#failure.message };
    if (this.#stopping) return { reason: 'the server is shutting down' };
    return this.#engine.restarting();
  }

  get openAnswers(): number {
    return this.#open.size;
  }

  /**
   * Throws ApiError `engine_failed`, `engine_restarting` or `shutting_down` unless the server is
   * ready.
   */
  requireReady(): void {
    if (this.#failure !== undefined) throw toApiError(this.#failure);
    if (this.#stopping) throw new ApiError('shutting_down', 'The server is shutting down.');
    const restarting = this.#engine.restarting();
    if (restarting === null || this.#engine.isAsleep()) return;
    const { retryAfterSeconds } = restarting;
    const message = 'The engine failed and is being started again.';
    throw new ApiError('engine_restarting', message, undefined, { retryAfterSeconds });
  }

  /** What the client of an answer that the engine ended unasked is told. */
  blame(message: string): ApiError {
    if (this.#stopping) {
      return new ApiError('shutting_down', 'The server shut down before this was finished.');
    }
    return new ApiError(this.#engine.isAsleep() ? 'engine_asleep' : 'engine_failed', message);
  }

  track(answer: OpenAnswer): void {
    this.#open.add(answer);
    void answer.settled.then(() => this.#open.delete(answer));
  }

  stop(): void {
    this.#stopping = true;
  }

  /** After the engine's end: what it left open ends too. */
  endOpen(): void {
    const error = new ApiError('shutting_down', 'The server shut down before this was finished.');
    for (const answer of this.#open) answer.fail(error);
  }

  /** The engine died: every open answer ends with its error, and new requests meet it too. */
  fail(error: EngineError): void {
    this.#failure ??= error;
    for (const answer of this.#open) answer.fail(toApiError(error));
  }
}
