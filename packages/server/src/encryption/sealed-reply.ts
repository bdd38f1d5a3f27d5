import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { Writable } from 'node:stream';
import {
  CHUNK_BYTES_MAX,
  encodeContent,
  encodeResponseHead,
  RESPONSE_END,
  RESPONSE_MEDIA_TYPE,
  type ResponseSealer,
} from '@bridgekeeper/envelope';

/**
 * The server's side of an answer that goes out encrypted: what routes use of a ServerResponse, each
 * write one sealed part. It ends with the response that carries it, and that with it.
 */
export class SealedReply extends Writable {
  readonly #outgoing: ServerResponse;
  readonly #answer: ResponseSealer;
  readonly #outerHeaders: Readonly<Record<string, string>>;
  /** Goes before the first part. */
  #head: Uint8Array = new Uint8Array();

  /** `outerHeaders` are for everybody between. */
  constructor(
    outgoing: ServerResponse,
    answer: ResponseSealer,
    outerHeaders: Readonly<Record<string, string>>,
  ) {
    super();
    this.#outgoing = outgoing;
    this.#answer = answer;
    this.#outerHeaders = outerHeaders;
    outgoing.once('close', () => this.destroy());
    outgoing.on('timeout', () => this.emit('timeout'));
    // Whoever writes here learns of trouble as of any client that has left.
    outgoing.on('error', () => this.destroy());
    this.on('error', () => undefined);
    if (outgoing.destroyed) this.destroy();
  }

  get socket() {
    return this.#outgoing.socket;
  }

  writeHead(status: number, headers: Readonly<Record<string, string>>): void {
    this.#head = encodeResponseHead(status, Object.entries(headers));
    this.#outgoing.writeHead(200, {
      ...this.#outerHeaders,
      'Content-Type': RESPONSE_MEDIA_TYPE,
      'Cache-Control': 'no-store',
      'X-Accel-Buffering': 'no',
    });
  }

  flushHeaders(): void {
    this.write(new Uint8Array());
  }

  setTimeout(ms: number): void {
    this.#outgoing.setTimeout(ms);
  }

  /** All of an answer that is there already. */
  async sendWhole(response: Response): Promise<void> {
    this.writeHead(response.status, Object.fromEntries(response.headers));
    this.end(new Uint8Array(await response.arrayBuffer()));
  }

  override _write(content: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
    this.#pass(content).then(() => done(), done);
  }

  override _final(done: (error?: Error) => void): void {
    const last = this.#answer.seal(this.#withHead(RESPONSE_END), true);
    last.then((sealed) => this.#outgoing.end(sealed, () => done()), done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#outgoing.writableFinished) this.#outgoing.destroy();
    done(error);
  }

  async #pass(content: Uint8Array): Promise<void> {
    const plain = this.#withHead(encodeContent(content));
    for (let at = 0; at < plain.length; at += CHUNK_BYTES_MAX) {
      const sealed = await this.#answer.seal(plain.subarray(at, at + CHUNK_BYTES_MAX), false);
      if (this.#outgoing.destroyed) throw new Error('the client has left');
      if (!this.#outgoing.write(sealed)) {
        await Promise.race([once(this.#outgoing, 'drain'), once(this.#outgoing, 'close')]);
      }
    }
  }

  #withHead(plain: Uint8Array): Uint8Array {
    const all = Buffer.concat([this.#head, plain]);
    this.#head = new Uint8Array();
    return all;
  }
}
