import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import {
  type BodyPart,
  MalformedResponse,
  type ResponseHead,
  ResponseReader,
  type ResponseSink,
  type UpstreamFault,
} from './response-reader.ts';

/** Where a replica is. */
export interface UpstreamAddress {
  readonly host: string;
  readonly port: number;
  /**
   * With TLS: SHA-256, in hex, of the key's SubjectPublicKeyInfo that must answer, or null for a
   * certificate that the system's authorities vouch for. Absent: without TLS.
   */
  readonly tls?: { readonly keySha256: string | null };
}

/** Is told what becomes of one request: `head`, `body`..., then `end` or `failed`, and no more. */
export interface Exchange {
  head(head: ResponseHead): void;
  body(part: BodyPart): void;
  end(): void;
  /** Nothing more comes. `isUnanswered`: not a byte had come. */
  failed(fault: UpstreamFault, isUnanswered: boolean): void;
}

/**
 * Where sockets read to, all of them: what is read is copied out before anything else reads. A
 * token has some hundred bytes, and a socket that reads for itself takes 64 KiB for each of them.
 */
const READ_BYTES = 64 * 1024;
const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES);

/** One connection to a replica: one request at a time. */
export class UpstreamConnection implements ResponseSink {
  readonly #socket: Socket;
  /** Called once an answer has ended, where another request may follow. */
  readonly #free: (connection: UpstreamConnection) => void;
  readonly #closed: (connection: UpstreamConnection) => void;
  #exchange: Exchange | undefined;
  #reader: ResponseReader | undefined;
  #keepsAlive = false;
  #uses = 0;
  #fault: UpstreamFault = 'refused';
  /** What waits until the key at the other end is known. */
  #unsent: Buffer | undefined;
  #isVerified: boolean;
  /** What still comes is of no use any more. */
  #isEnding = false;

  constructor(
    address: UpstreamAddress,
    free: (connection: UpstreamConnection) => void,
    closed: (connection: UpstreamConnection) => void,
  ) {
    this.#free = free;
    this.#closed = closed;
    this.#isVerified = address.tls === undefined;
    this.#socket = this.#open(address);
    this.#socket.setNoDelay(true);
    this.#socket.on('error', () => undefined);
    this.#socket.on('end', () => this.destroy());
    this.#socket.on('close', () => this.#ended());
  }

  /** Whether it carried a request before: then it may have been closed since, unseen. */
  get isReused(): boolean {
    return this.#uses > 1;
  }

  /** Sends a whole request. */
  send(request: Buffer, isHead: boolean, exchange: Exchange): void {
    this.#uses += 1;
    this.#exchange = exchange;
    this.#reader = new ResponseReader(this, isHead);
    if (this.#isVerified) this.#socket.write(request);
    else this.#unsent = request;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Ends it, whatever it is doing: its exchange fails. */
  destroy(fault?: UpstreamFault): void {
    if (fault !== undefined) this.#fault = fault;
    this.#isEnding = true;
    this.#socket.destroy();
  }

  /** Ends it, and tells its exchange nothing. */
  abandon(): void {
    this.#exchange = undefined;
    this.#socket.destroy();
  }

  head(head: ResponseHead): void {
    this.#keepsAlive = head.keepsAlive;
    if (!this.#isEnding) this.#exchange?.head(head);
  }

  body(part: BodyPart): void {
    if (!this.#isEnding) this.#exchange?.body(part);
  }

  end(rest: boolean): void {
    if (this.#isEnding) return;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#reader = undefined;
    // A second answer to one request is none of ours.
    if (rest || !this.#keepsAlive || this.#socket.destroyed) this.#socket.destroy();
    else {
      this.#socket.resume();
      this.#free(this);
    }
    exchange?.end();
  }

  #open({ host, port, tls }: UpstreamAddress): Socket {
    if (tls === undefined) {
      const onread = {
        buffer: readBuffer,
        callback: (length: number) => {
          const bytes = Buffer.allocUnsafe(length);
          readBuffer.copy(bytes, 0, 0, length);
          this.#received(bytes);
          return true;
        },
      };
      const socket = connect({ host, port, onread });
      socket.once('connect', () => {
        this.#fault = 'closed';
      });
      return socket;
    }
    const pin = tls.keySha256;
    const options = { host, port, rejectUnauthorized: pin === null, servername: nameFor(host) };
    const socket = connectTls(options);
    socket.on('data', (bytes) => this.#received(bytes));
    socket.once('secureConnect', () => {
      this.#fault = 'closed';
      if (pin !== null && keyOf(socket) !== pin) {
        this.destroy('wrong-key');
        return;
      }
      this.#isVerified = true;
      if (this.#unsent !== undefined) socket.write(this.#unsent);
      this.#unsent = undefined;
    });
    return socket;
  }

  #received(bytes: Buffer): void {
    try {
      // Nothing was asked for: whatever it is, it is no answer.
      if (this.#reader === undefined) this.#socket.destroy();
      else this.#reader.push(bytes);
    } catch (error) {
      if (!(error instanceof MalformedResponse)) throw error;
      this.destroy('malformed');
    }
  }

  #ended(): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#closed(this);
    exchange?.failed(this.#fault, this.#reader?.isFresh ?? true);
  }
}

/** SNI takes no addresses. */
function nameFor(host: string): string {
  return /^[\d.]+$|:/.test(host) ? '' : host;
}

function keyOf(socket: TLSSocket): string | null {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return null;
  const key = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('hex');
}
