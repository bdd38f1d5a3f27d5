import type { Server } from 'node:net';
import { clearInterval } from 'node:timers';
import type { Loop } from '../world/loop.ts';
import {
  type Acceptor,
  type Network,
  type SimulatedSocket,
  SocketError,
} from '../world/network.ts';

interface Listening extends Acceptor {
  readonly host: string;
  readonly port: number;
  connections: number;
  isOpen: boolean;
}

type Listener = (...values: never[]) => void;

/** What `net.Server` does to listen, over the simulated network. */
export function serverMethods(loop: Loop, network: Network): Readonly<Record<string, Listener>> {
  const all = new WeakMap<Server, Listening>();
  const endIfDone = (server: Server, state: Listening) => {
    if (state.isOpen || state.connections > 0) return;
    process.nextTick(() => server.emit('close'));
  };
  const methods = {
    listen(
      this: Server,
      where: number | { host?: string; port?: number },
      ...rest: unknown[]
    ): Server {
      const life = loop.current!;
      const options = typeof where === 'number' ? { port: where } : where;
      const done = rest.at(-1) as (() => void) | undefined;
      const host = life.host;
      const port =
        options.port === undefined || options.port === 0 ? network.freePort() : options.port;
      if (done !== undefined) this.once('listening', done);
      const state: Listening = {
        life,
        host,
        port,
        connections: 0,
        isOpen: true,
        identity: () => (this as { identity?: () => unknown }).identity?.() ?? null,
        mayAccept: () =>
          this.maxConnections === undefined || state.connections < this.maxConnections,
        accept: (socket) => {
          state.connections += 1;
          socket.once('close', () => {
            state.connections -= 1;
            endIfDone(this, state);
          });
          this.emit('connection', socket);
        },
      };
      try {
        network.listen(host, port, state);
      } catch (error) {
        if (!(error instanceof SocketError)) throw error;
        process.nextTick(() => this.emit('error', error));
        return this;
      }
      all.set(this, state);
      life.onDeath(() => forget(this));
      process.nextTick(() => this.emit('listening'));
      return this;
    },
    address(this: Server) {
      const { port } = all.get(this)!;
      return { address: '127.0.0.1', family: 'IPv4', port };
    },
    close(this: Server, done?: () => void): Server {
      const state = all.get(this);
      if (state === undefined) {
        if (done !== undefined) process.nextTick(done);
        return this;
      }
      if (done !== undefined) this.once('close', done);
      if (!state.isOpen) return this;
      state.isOpen = false;
      network.unlisten(state.host, state.port, state);
      endIfDone(this, state);
      return this;
    },
    getConnections(this: Server, done: (error: null, count: number) => void): Server {
      const count = all.get(this)?.connections ?? 0;
      process.nextTick(() => done(null, count));
      return this;
    },
  };
  return methods as never;
}

// biome-ignore lint/suspicious/noExplicitAny: Node's own, by the names of its symbols
type Any = any;

/** What Node has of a server under a symbol that it does not export. */
function ownOf(server: Server, description: string): Any {
  const symbols = Object.getOwnPropertySymbols(server);
  const symbol = symbols.find((each) => each.description === description);
  return symbol === undefined ? undefined : (server as Any)[symbol];
}

/** Node looks for slow requests every 30 s, by the machine's clock, and keeps the server for it. */
function forget(server: Server): void {
  clearInterval(ownOf(server, 'http.server.connectionsCheckingInterval'));
}

interface Connection {
  readonly socket: SimulatedSocket & { readonly _httpMessage?: { readonly finished: boolean } };
}

const inOrder = (connections: readonly Connection[] = []): Connection[] =>
  [...connections].sort((a, b) => a.socket.number - b.socket.number);

/**
 * What `http.Server` does to end connections, in the order in which they came: Node's own order is
 * that of the machine's clock and of addresses in memory.
 */
export const httpServerMethods: Readonly<Record<string, Listener>> = {
  closeIdleConnections(this: Server): void {
    for (const { socket } of inOrder(ownOf(this, 'http.server.connections')?.idle())) {
      if (socket._httpMessage?.finished !== false) socket.destroy();
    }
  },
  closeAllConnections(this: Server): void {
    for (const { socket } of inOrder(ownOf(this, 'http.server.connections')?.all())) {
      socket.destroy();
    }
  },
};
