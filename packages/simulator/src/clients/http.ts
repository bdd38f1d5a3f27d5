import type { Life } from '../world/loop.ts';
import type { Network, SimulatedSocket } from '../world/network.ts';

export interface ResponseHead {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
}

/** Is told what comes for one request: `head`, `body`..., then `end`, or `lost` at any point. */
export interface ResponseListener {
  head(head: ResponseHead): void;
  body(text: string): void;
  end(): void;
  /** The connection ended first. */
  lost(code: string): void;
  /** What came is no HTTP, or came unasked. */
  broken(what: string): void;
}

/** One connection of a client: one request at a time, and nothing is forgiven. */
export class ClientConnection {
  readonly socket: SimulatedSocket;
  #listener: ResponseListener | null = null;
  #text = '';
  #state: 'idle' | 'head' | 'length' | 'chunk-size' | 'chunk' | 'chunk-end' | 'rest' = 'idle';
  #left = 0;
  #keepsAlive = true;
  #error = 'closed';

  constructor(network: Network, life: Life, host: string, port: number, windowBytes?: number) {
    this.socket = network.connect(life, host, port, windowBytes);
    this.socket.on('data', (bytes: Buffer) => this.#received(bytes.toString('latin1')));
    this.socket.on('error', (error: Error & { code?: string }) => {
      this.#error = error.code ?? 'error';
    });
    this.socket.on('close', () => {
      if (this.#state === 'rest') this.#finish();
      const listener = this.#listener;
      this.#listener = null;
      listener?.lost(this.#error);
    });
  }

  /** Whether another request may be sent. */
  get isFree(): boolean {
    return this.#listener === null && this.#keepsAlive && !this.socket.destroyed;
  }

  send(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body: string,
    listener: ResponseListener,
  ): void {
    let text = `${method} ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n`;
    for (const [name, value] of Object.entries(headers)) text += `${name}: ${value}\r\n`;
    if (method !== 'GET') text += `content-length: ${Buffer.byteLength(body)}\r\n`;
    this.#listener = listener;
    this.#state = 'head';
    this.socket.write(`${text}\r\n${body}`);
  }

  close(): void {
    this.#listener = null;
    this.socket.destroy();
  }

  #received(text: string): void {
    if (this.#listener === null) {
      if (this.#state === 'idle' && text.length > 0) this.socket.destroy();
      return;
    }
    this.#text += text;
    while (this.#step());
  }

  /** false: more has to come. */
  #step(): boolean {
    const text = this.#text;
    switch (this.#state) {
      case 'head': {
        const end = text.indexOf('\r\n\r\n');
        if (end < 0) return false;
        this.#text = text.slice(end + 4);
        this.#head(text.slice(0, end));
        return true;
      }
      case 'length':
      case 'chunk': {
        if (this.#left > 0) {
          if (text === '') return false;
          const part = text.slice(0, this.#left);
          this.#left -= part.length;
          this.#text = text.slice(part.length);
          this.#listener?.body(Buffer.from(part, 'latin1').toString());
          return true;
        }
        if (this.#state === 'length') {
          this.#finish();
          return false;
        }
        this.#state = 'chunk-end';
        return true;
      }
      case 'chunk-end':
        if (text.length < 2) return false;
        if (!text.startsWith('\r\n')) return this.#break('a chunk does not end');
        this.#text = text.slice(2);
        this.#state = 'chunk-size';
        return true;
      case 'chunk-size': {
        const end = text.indexOf('\r\n');
        if (end < 0) return false;
        const size = Number.parseInt(text.slice(0, end), 16);
        if (Number.isNaN(size)) return this.#break('a chunk without a size');
        if (size === 0) {
          if (text.length < end + 4) return false;
          this.#text = text.slice(end + 4);
          this.#finish();
          return false;
        }
        this.#text = text.slice(end + 2);
        this.#left = size;
        this.#state = 'chunk';
        return true;
      }
      case 'rest':
        this.#text = '';
        if (text !== '') this.#listener?.body(Buffer.from(text, 'latin1').toString());
        return false;
      case 'idle':
        return false;
    }
  }

  #head(text: string): void {
    const [first = '', ...lines] = text.split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(first)?.[1]);
    if (Number.isNaN(status)) {
      this.#break('no status line');
      return;
    }
    const headers = new Map<string, string>();
    for (const line of lines) {
      const at = line.indexOf(':');
      headers.set(line.slice(0, at).toLowerCase(), line.slice(at + 1).trim());
    }
    if (status === 100) return;
    this.#keepsAlive = headers.get('connection')?.toLowerCase() !== 'close';
    const length = headers.get('content-length');
    if (headers.get('transfer-encoding') === 'chunked') this.#state = 'chunk-size';
    else if (length !== undefined) {
      this.#state = 'length';
      this.#left = Number(length);
    } else this.#state = 'rest';
    this.#listener?.head({ status, headers });
  }

  #finish(): void {
    const listener = this.#listener;
    this.#listener = null;
    this.#state = 'idle';
    if (this.#text !== '') listener?.broken('bytes after the end of the answer');
    this.#text = '';
    listener?.end();
    if (!this.#keepsAlive) this.socket.destroy();
  }

  #break(what: string): false {
    this.#listener?.broken(what);
    this.#listener = null;
    this.#state = 'idle';
    this.socket.destroy();
    return false;
  }
}
