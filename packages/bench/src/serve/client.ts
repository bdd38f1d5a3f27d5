import {
  type ClientRequest,
  type IncomingMessage,
  Agent as PlainAgent,
  request as plainRequest,
} from 'node:http';
import { type RequestOptions, request as secureRequest, Agent as TlsAgent } from 'node:https';
import type { Clock } from '@bridgekeeper/bridge';
import type { Fault, Outcome } from './outcome.ts';
import { StreamReader, type Usage } from './stream-reader.ts';

export interface ClientOptions {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** A request fails once nothing has come from the server for so long. */
  readonly silenceSeconds: number;
  /** Takes any certificate. */
  readonly insecure: boolean;
  /**
   * Whether a fault may say what the server said: it may quote the prompt, which is no one's
   * business unless it was made up.
   */
  readonly quotesErrors: boolean;
}

export interface WrittenRequest {
  readonly id: string;
  /** JSON, ready to be sent. */
  readonly body: Buffer;
  readonly promptTokens: number | undefined;
}

/** What is known of a request while it runs. */
class Attempt {
  readonly chunkNs: number[] = [];
  usage: Usage | undefined;
  hasAnswer = false;
  /** What this side ended it for: what the socket then says is but a consequence. */
  ended: string | undefined;
}

/** Why a request failed, on its way up. */
class RequestError extends Error {
  readonly fault: Fault;

  constructor(reason: string, detail?: string) {
    super(reason);
    this.fault = { reason, detail };
  }
}

/** Characters of an answer that is no stream that are worth reading. */
const DOCUMENT_CHARACTERS_MAX = 2 ** 20;
const QUOTE_CHARACTERS_MAX = 200;

/**
 * Sends generation requests and reads their streams: little work per chunk, so that hundreds of
 * streams in one process are measured and not the client.
 */
export class ServeClient {
  readonly #options: ClientOptions;
  readonly #clock: Clock;
  readonly #agent: PlainAgent;
  readonly #onChunk: () => void;

  /** `onChunk` is called for every chunk with output. */
  constructor(options: ClientOptions, clock: Clock, onChunk: () => void) {
    this.#options = options;
    this.#clock = clock;
    this.#onChunk = onChunk;
    const keep = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY };
    this.#agent = options.url.protocol === 'https:' ? new TlsAgent(keep) : new PlainAgent(keep);
  }

  /** Resolves when the answer is complete or has failed; never rejects. */
  async send(request: WrittenRequest, arrivedNs: number): Promise<Outcome> {
    const startedNs = this.#clock.nowNs();
    const attempt = new Attempt();
    let fault: Fault | undefined;
    try {
      const isStale = await this.#exchange(request, attempt, this.#agent);
      if (isStale) await this.#exchange(request, attempt, false);
      if (attempt.chunkNs.length === 0) throw new RequestError('the answer had no output');
    } catch (error) {
      fault = faultOf(error, attempt);
    }
    return {
      arrivedNs,
      startedNs,
      chunkNs: attempt.chunkNs,
      completionTokens: attempt.usage?.completion_tokens,
      promptTokens: attempt.usage?.prompt_tokens ?? request.promptTokens,
      fault,
    };
  }

  /** A JSON document of the server, or why it could not be had; never rejects. */
  async get(url: URL): Promise<{ readonly document: unknown; readonly fault: string | undefined }> {
    const attempt = new Attempt();
    try {
      const document = await new Promise<unknown>((resolve, reject) => {
        const { headers } = this.#options;
        const outgoing = this.#open(url, { headers, agent: this.#agent }, attempt);
        outgoing.on('error', (error) => reject(connectionError(error)));
        outgoing.once('response', (incoming) => {
          this.#readDocument(incoming).then(resolve, reject);
        });
        outgoing.end();
      });
      return { document, fault: undefined };
    } catch (error) {
      return { document: undefined, fault: faultOf(error, attempt).reason };
    }
  }

  /** Closes what is kept open for further requests. */
  close(): void {
    this.#agent.destroy();
  }

  #open(url: URL, options: RequestOptions, attempt: Attempt): ClientRequest {
    const { silenceSeconds, insecure } = this.#options;
    const start = url.protocol === 'https:' ? secureRequest : plainRequest;
    const outgoing = start(url, { ...options, rejectUnauthorized: !insecure });
    outgoing.setNoDelay(true);
    outgoing.setTimeout(silenceSeconds * 1000, () => {
      attempt.ended = `nothing came for ${silenceSeconds} s`;
      outgoing.destroy();
    });
    return outgoing;
  }

  /**
   * One request and its answer. Resolves to true where the server had closed a kept connection
   * before it saw the request, which is to be expected of kept ones; `agent` false takes a new one.
   */
  #exchange(
    { id, body }: WrittenRequest,
    attempt: Attempt,
    agent: PlainAgent | false,
  ): Promise<boolean> {
    const headers = {
      'Content-Type': 'application/json',
      Accept: 'text/event-stream',
      'Content-Length': body.length,
      ...this.#options.headers,
      'X-Request-Id': id,
    };
    return new Promise((resolve, reject) => {
      const request = { method: 'POST', headers, agent };
      const outgoing = this.#open(this.#options.url, request, attempt);
      outgoing.on('error', (error: NodeJS.ErrnoException) => {
        const isReset = outgoing.reusedSocket && error.code === 'ECONNRESET';
        if (isReset && !attempt.hasAnswer && attempt.ended === undefined) resolve(true);
        else reject(connectionError(error));
      });
      outgoing.once('response', (incoming) => {
        attempt.hasAnswer = true;
        const isStream = incoming.statusCode === 200;
        const read = isStream ? this.#readStream(incoming, attempt) : this.#readDocument(incoming);
        read.then(() => resolve(false), reject);
      });
      outgoing.end(body);
    });
  }

  #readStream(incoming: IncomingMessage, attempt: Attempt): Promise<void> {
    const reader = new StreamReader();
    incoming.setEncoding('utf8');
    return new Promise((resolve, reject) => {
      incoming.on('data', (text: string) => {
        try {
          this.#take(reader, text, attempt);
        } catch (error) {
          reject(error);
          incoming.destroy();
        }
      });
      incoming.once('end', resolve);
      const broken = () => reject(new RequestError('the connection broke off within an answer'));
      incoming.on('error', broken);
      // After 'end' this changes nothing.
      incoming.once('close', broken);
    });
  }

  #take(reader: StreamReader, text: string, attempt: Attempt): void {
    const nowNs = this.#clock.nowNs();
    for (const event of reader.push(text)) {
      if (event.kind === 'error')
        throw this.#refusal('the stream ended with an error', event.error);
      if (event.kind === 'done') continue;
      attempt.usage = event.usage ?? attempt.usage;
      if (!event.hasOutput) continue;
      attempt.chunkNs.push(nowNs);
      this.#onChunk();
    }
  }

  /** The document of an answer that is no stream. Throws RequestError where it refuses. */
  async #readDocument(incoming: IncomingMessage): Promise<unknown> {
    incoming.setEncoding('utf8');
    let text = '';
    for await (const part of incoming) {
      if (text.length < DOCUMENT_CHARACTERS_MAX) text += part;
    }
    const isRefusal = incoming.statusCode !== 200;
    let document: { error?: unknown } | null = null;
    try {
      document = JSON.parse(text);
    } catch {
      // A proxy's page, perhaps: of a refusal the status says enough.
      if (!isRefusal) throw new RequestError('the answer is not JSON');
    }
    if (!isRefusal) return document;
    // OpenAI's shape, or the error itself at the top.
    throw this.#refusal(`HTTP ${incoming.statusCode}`, document?.error ?? document);
  }

  /** With an error document's code or type, and what it says where that may be repeated. */
  #refusal(what: string, error: unknown): RequestError {
    const { code, type, message } = (error ?? {}) as Record<string, unknown>;
    const isWord = (value: unknown) => typeof value === 'string' && /^[\w.-]{1,64}$/.test(value);
    const word = [code, type].find(isWord);
    const mayQuote = this.#options.quotesErrors && typeof message === 'string';
    const detail = mayQuote ? message.slice(0, QUOTE_CHARACTERS_MAX) : undefined;
    return new RequestError(word === undefined ? what : `${what}: ${word}`, detail);
  }
}

function faultOf(error: unknown, { ended }: Attempt): Fault {
  if (ended !== undefined) return { reason: ended, detail: undefined };
  if (error instanceof RequestError) return error.fault;
  return { reason: (error as Error).message, detail: undefined };
}

function connectionError(error: NodeJS.ErrnoException): RequestError {
  return new RequestError(`the connection failed (${error.code ?? error.message})`);
}
