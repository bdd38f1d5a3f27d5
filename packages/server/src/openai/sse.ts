import type { ServerResponse } from 'node:http';
import type { ApiError } from '../http/errors.ts';
import type { Choice, ChoiceDelta } from './choice.ts';
import type { Generation } from './generation.ts';
import type { TokenListener } from './wake-queue.ts';

/**
 * How an endpoint writes what happens as server-sent events, whole ones, each ended by an empty
 * line.
 */
export interface ChunkFormat {
  /** Before anything has come; empty where there is nothing to say then. */
  opening(generation: Generation): string;
  /** Empty where there is nothing to say. */
  chunk(choice: Choice, delta: ChoiceDelta): string;
  /** After the last chunk of every choice: the stream's end. */
  closing(generation: Generation): string;
  /** The end of a stream that failed. */
  failure(generation: Generation, error: ApiError): string;
}

export interface StreamLimits {
  /** Tokens kept for a client that does not read; with more it is cut off. */
  readonly maxPendingTokens: number;
  /** How long a client may leave what was written unread before it is cut off. */
  readonly stallSeconds: number;
}

/** Is told what a stream sends and how it ends: a receipt hashes it. */
export interface StreamRecorder {
  sent(text: string): void;
  ended(outcome: 'complete' | 'failed' | 'cut'): void;
}

const EVENT_STREAM_HEADERS = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'no-cache',
  'X-Accel-Buffering': 'no',
} as const;

/**
 * Writes one answer to one client as it comes. Everything that came within a turn of the event loop
 * leaves in one write. While the client does not read, tokens stay tokens: a slow client gets
 * fewer, larger chunks, and one that has stopped reading costs a bounded number of tokens and is
 * then cut off.
 */
export class SseStream implements TokenListener {
  readonly #outgoing: ServerResponse;
  readonly #generation: Generation;
  readonly #format: ChunkFormat;
  readonly #limits: StreamLimits;
  readonly #recorder: StreamRecorder | null;
  #blocked = false;
  #ended = false;

  constructor(
    outgoing: ServerResponse,
    generation: Generation,
    format: ChunkFormat,
    limits: StreamLimits,
    recorder: StreamRecorder | null = null,
  ) {
    this.#outgoing = outgoing;
    this.#generation = generation;
    this.#format = format;
    this.#limits = limits;
    this.#recorder = recorder;
  }

  /** Submits the answer and opens the stream. Throws ApiError, with nothing written yet. */
  start(headers: Readonly<Record<string, string>>): void {
    this.#generation.start(this);
    this.#outgoing.once('close', () => this.#closed());
    this.#outgoing.on('drain', () => this.#drained());
    this.#outgoing.on('timeout', () => this.#cutOff());
    this.#outgoing.writeHead(200, { ...headers, ...EVENT_STREAM_HEADERS });
    this.#outgoing.flushHeaders();
    const opening = this.#format.opening(this.#generation);
    if (opening !== '') this.#write(opening);
    if (this.#outgoing.destroyed) this.#closed();
  }

  wake(): void {
    if (this.#ended) return;
    const failed = this.#generation.error !== undefined;
    if (this.#blocked && !failed) {
      if (this.#generation.pendingTokens > this.#limits.maxPendingTokens) this.#cutOff();
      return;
    }
    const text = this.#news();
    const error = this.#generation.error;
    if (error !== undefined) {
      this.#end(text + this.#format.failure(this.#generation, error), 'failed');
      this.#generation.abort();
    } else if (this.#generation.isSettled) {
      this.#end(text + this.#format.closing(this.#generation), 'complete');
    } else if (text !== '') {
      this.#write(text);
    }
  }

  #news(): string {
    let text = '';
    for (const choice of this.#generation.choices) {
      if (!choice.hasNews) continue;
      text += this.#format.chunk(choice, this.#generation.take(choice));
    }
    return text;
  }

  #write(text: string): void {
    this.#recorder?.sent(text);
    if (this.#outgoing.write(text)) return;
    this.#blocked = true;
    this.#watchForStall();
  }

  #end(text: string, outcome: 'complete' | 'failed'): void {
    this.#ended = true;
    this.#watchForStall();
    this.#recorder?.sent(text);
    this.#outgoing.end(text);
    this.#recorder?.ended(outcome);
  }

  #watchForStall(): void {
    this.#outgoing.setTimeout(this.#limits.stallSeconds * 1000);
  }

  #drained(): void {
    if (!this.#blocked || this.#ended) return;
    this.#blocked = false;
    this.#outgoing.setTimeout(0);
    this.wake();
  }

  #cutOff(): void {
    // The response stays unfinished on purpose: the client must not take it for a whole answer.
    this.#outgoing.socket?.resetAndDestroy();
    this.#outgoing.destroy();
  }

  #closed(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#recorder?.ended('cut');
    this.#generation.abort();
  }
}
