import { createHash } from 'node:crypto';
import { Agent } from 'node:https';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { ClientError } from '../errors.ts';

/**
 * Connections to one server that all show one TLS key: that of the first of them. A connection is
 * given to a request only after its handshake, in which the peer has proven that it has the key; so
 * nothing of a request reaches another one.
 */
export class PinnedAgent extends Agent {
  readonly host: string;
  readonly port: number;
  #spkiSha256: string | undefined;
  #isRetired = false;

  constructor(host: string, port: number) {
    // Without sessions to resume: each connection shows its certificate.
    super({ keepAlive: true, maxCachedSessions: 0, scheduling: 'lifo' });
    this.host = host;
    this.port = port;
  }

  /** SHA-256 of the key, hexadecimal; undefined before the first connection. */
  get spkiSha256(): string | undefined {
    return this.#spkiSha256;
  }

  /** Keeps no connection any longer than its request. */
  retire(): void {
    this.#isRetired = true;
    for (const sockets of Object.values(this.freeSockets)) {
      for (const socket of sockets ?? []) socket.destroy();
    }
  }

  /** Whether it is kept for another request. */
  override keepSocketAlive(socket: Duplex): boolean {
    const isKept: unknown = super.keepSocketAlive(socket);
    return isKept === true && !this.#isRetired;
  }

  override createConnection(
    _options: unknown,
    callback: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const { host, port } = this;
    const socket = connect({
      host,
      port,
      ...(isIP(host) === 0 && { servername: host }),
      ALPNProtocols: ['http/1.1'],
      // Its keys cannot be changed within a connection, and its handshake hides the certificate.
      minVersion: 'TLSv1.3',
      // Who the peer is follows from its key in the report, not from who certified its name.
      rejectUnauthorized: false,
    });
    const fail = (error: Error): void => {
      socket.destroy();
      callback(error, socket);
    };
    socket.once('error', fail);
    socket.once('secureConnect', () => {
      socket.off('error', fail);
      const shown = spkiSha256Of(socket);
      this.#spkiSha256 ??= shown;
      if (shown === this.#spkiSha256) callback(null, socket);
      else fail(new ClientError('key-changed', `${host}:${port} shows another TLS key`));
    });
  }
}

function spkiSha256Of(socket: TLSSocket): string | undefined {
  const spki = socket.getPeerX509Certificate()?.publicKey.export({ type: 'spki', format: 'der' });
  return spki && createHash('sha256').update(spki).digest('hex');
}
