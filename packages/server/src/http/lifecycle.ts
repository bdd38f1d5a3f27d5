import type { EngineError } from '@bridgekeeper/engine';
import { ApiError, toApiError } from './errors.ts';

/** An answer that is being given. */
interface OpenAnswer {
  /** Resolves when it has ended; never rejects. */
  readonly settled: Promise<unknown>;
  /** Ends it with `error`. */
  fail(error: ApiError): void;
}

export type Health = 'ready' | 'stopping' | 'failed';

/** Whether the server takes work, and which answers are open. */
export class Lifecycle {
  #failure: EngineError | undefined;
  #stopping = false;
  readonly #open = new Set<OpenAnswer>();
  readonly #isAsleep: () => boolean;

  constructor(isAsleep: () => boolean = () => false) {
    this.#isAsleep = isAsleep;
  }

  get health(): Health {
    if (this.#failure !== undefined) return 'failed';
    return this.#stopping ? 'stopping' : 'ready';
  }

  get openAnswers(): number {
    return this.#open.size;
  }

  /** Throws ApiError `engine_failed` or `shutting_down` unless the server is ready. */
  requireReady(): void {
    if (this.#failure !== undefined) throw toApiError(this.#failure);
    if (this.#stopping) throw new ApiError('shutting_down', 'The server is shutting down.');
  }

  /** What the client of an answer that the engine ended unasked is told. */
  blame(message: string): ApiError {
    if (this.#stopping) {
      return new ApiError('shutting_down', 'The server shut down before this was finished.');
    }
    return new ApiError(this.#isAsleep() ? 'engine_asleep' : 'engine_failed', message);
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
