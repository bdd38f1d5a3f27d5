// First of all: a response that says "already sent" is known by identity of its header, which must
// exist before the adapter replaces the global Response.
import '@hono/node-server/utils/response';
import { readFileSync, statSync, unlinkSync } from 'node:fs';
import {
  createServer as createHttpServer,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Socket,
  type Server as TcpServer,
} from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { ServerClock } from '../host-clock.ts';
import { UsageError } from '../settings/resolve.ts';
import type { Settings } from '../settings/table.ts';

/** What answers requests: an application of hono, or Node's own listener. */
type Answerer = { readonly fetch: Parameters<typeof getRequestListener>[0] } | RequestListener;

export type ListenSettings = Pick<
  Settings,
  | 'host'
  | 'port'
  | 'uds'
  | 'sslKeyfile'
  | 'sslCertfile'
  | 'maxConnections'
  | 'requestTimeout'
  | 'stallTimeout'
>;

/**
 * Longer than the idle timeouts of common load balancers, so that they and not we close an unused
 * connection.
 */
const KEEP_ALIVE_SECONDS = 75;
/**
 * Requests of one connection that wait for their answers. Clients that do not wait for one before
 * they send the next are rare; what each asks for is held here until it reads.
 */
const MAX_PIPELINED = 32;
/** How long the last bytes of finished answers have to leave once the engine is down. */
const FLUSH_SECONDS = 2;

/**
 * The socket side: listening, limits on connections, and closing without cutting off what is open.
 */
export class HttpServer {
  readonly #server: Server;
  readonly #settings: ListenSettings;
  readonly #clock: ServerClock;
  #closing = false;

  /** Throws UsageError where the TLS files cannot be read or used. */
  constructor(app: Answerer, settings: ListenSettings, clock: ServerClock) {
    this.#settings = settings;
    this.#clock = clock;
    this.#server = createNodeServer(app, settings);
    this.#server.maxConnections = settings.maxConnections;
    this.#server.on('request', (_request, response) => {
      response.once('close', () => {
        if (this.#closing) setImmediate(() => this.#server.closeIdleConnections());
      });
    });
  }

  /**
   * Starts to listen; resolves to the base URL. Throws UsageError where the address cannot be had.
   */
  async listen(): Promise<string> {
    await listenAt(this.#server, this.#settings);
    return this.#url();
  }

  /** Takes no more connections. */
  stopAccepting(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#server.close();
    this.#server.closeIdleConnections();
  }

  /** Lets the last bytes leave, then closes whatever is still open. */
  async close(): Promise<void> {
    this.stopAccepting();
    setImmediate(() => this.#server.closeIdleConnections());
    const closed = new Promise<void>((resolve) => {
      this.#server.getConnections((_error, count) => {
        if (count === 0) resolve();
        else this.#server.once('close', resolve);
      });
    });
    const loseNoTime = this.#clock.after(FLUSH_SECONDS, () => this.#server.closeAllConnections());
    await closed;
    loseNoTime();
  }

  #url(): string {
    const { uds, sslKeyfile } = this.#settings;
    const scheme = sslKeyfile === undefined ? 'http' : 'https';
    if (uds !== undefined) return `${scheme}://localhost`;
    const { address, port, family } = this.#server.address() as AddressInfo;
    return `${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }
}

type Address = Pick<ListenSettings, 'host' | 'port' | 'uds'>;

/**
 * Throws UsageError where the address cannot be had. It is tried and given back: until the model is
 * there nothing listens, so that no client takes a server for ready that is not.
 */
export async function requireFreeAddress(address: Address): Promise<void> {
  const probe = createTcpServer();
  await listenAt(probe, address);
  await new Promise((resolve) => probe.close(resolve));
}

async function listenAt(server: TcpServer, { uds, host, port }: Address): Promise<void> {
  if (uds !== undefined) await removeStaleSocket(uds);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const where = uds ?? `${host}:${port}`;
      const hint = error.code === 'EADDRINUSE' ? ': something else listens there' : '';
      const message = `cannot listen on ${where} (${error.code})${hint}`;
      reject(new UsageError('bad-value', message, { cause: error }));
    });
    server.listen(uds === undefined ? { host, port, backlog: 4096 } : { path: uds }, resolve);
  });
}

function createNodeServer(app: Answerer, settings: ListenSettings): Server {
  const requestMs = settings.requestTimeout * 1000;
  const serverOptions = {
    ...tlsFiles(settings),
    // Slow and idle clients: a request has to be complete in time, and so has its head.
    requestTimeout: requestMs,
    headersTimeout: requestMs,
    connectionsCheckingInterval: Math.min(5000, requestMs / 2),
    keepAliveTimeout: KEEP_ALIVE_SECONDS * 1000,
    noDelay: true,
  };
  const listener = typeof app === 'function' ? app : getRequestListener(app.fetch);
  const bounded = withinBounds(listener, settings.stallTimeout);
  return settings.sslKeyfile === undefined
    ? createHttpServer(serverOptions, bounded)
    : createHttpsServer(serverOptions, bounded);
}

/** Ends connections that ask without reading the answers. */
function withinBounds(listener: RequestListener, stallSeconds: number): RequestListener {
  const open = new WeakMap<Socket, number>();
  return (request, response) => {
    const { socket } = request;
    if (socket.destroyed) return;
    const count = (open.get(socket) ?? 0) + 1;
    open.set(socket, count);
    if (count > MAX_PIPELINED) {
      socket.destroy();
      return;
    }
    response.once('close', () => open.set(socket, open.get(socket)! - 1));
    endIfUnread(response, stallSeconds);
    listener(request, response);
  };
}

/** An answer that was given to the connection, and does not leave, as streams have it. */
function endIfUnread(response: ServerResponse, stallSeconds: number): void {
  response.once('prefinish', () => {
    if (!response.writableFinished) response.setTimeout(stallSeconds * 1000);
  });
}

function tlsFiles({ sslKeyfile, sslCertfile }: ListenSettings): { key?: Buffer; cert?: Buffer } {
  if (sslKeyfile === undefined || sslCertfile === undefined) return {};
  const read = (flag: string, path: string) => {
    try {
      return readFileSync(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new UsageError('bad-file', `${flag}: cannot read ${path} (${code})`, { cause: error });
    }
  };
  return { key: read('--ssl-keyfile', sslKeyfile), cert: read('--ssl-certfile', sslCertfile) };
}

/** A socket file without a listener is in the way; anything else is left alone. */
async function removeStaleSocket(path: string): Promise<void> {
  if (!statSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const answered = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (!answered) unlinkSync(path);
}
