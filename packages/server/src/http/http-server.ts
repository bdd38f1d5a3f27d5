// First of all: a response that says "already sent" is known by identity of its header, which must
// exist before the adapter replaces the global Response.
import '@hono/node-server/utils/response';
import { readFileSync, statSync, unlinkSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import {
  type AddressInfo,
  connect,
  createServer as createTcpServer,
  type Server as TcpServer,
} from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { ServerClock } from '../host-clock.ts';
import { UsageError } from '../settings/resolve.ts';
import type { Settings } from '../settings/table.ts';

/** What answers requests: the application. */
type Fetcher = Pick<Parameters<typeof createAdaptorServer>[0], 'fetch'>;

export type ListenSettings = Pick<
  Settings,
  'host' | 'port' | 'uds' | 'sslKeyfile' | 'sslCertfile' | 'maxConnections' | 'requestTimeout'
>;

/**
 * Longer than the idle timeouts of common load balancers, so that they and not we close an unused
 * connection.
 */
const KEEP_ALIVE_SECONDS = 75;
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
  constructor(app: Fetcher, settings: ListenSettings, clock: ServerClock) {
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

function createNodeServer(app: Fetcher, settings: ListenSettings): Server {
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
  const createServer = settings.sslKeyfile === undefined ? createHttpServer : createHttpsServer;
  const options = { fetch: app.fetch, createServer, serverOptions };
  return createAdaptorServer(options as Parameters<typeof createAdaptorServer>[0]) as Server;
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
