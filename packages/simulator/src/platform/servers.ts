import type { Server } from 'node:net';
import type { Loop } from '../world/loop.ts';
import { type Acceptor, type Network, SocketError } from '../world/network.ts';

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
