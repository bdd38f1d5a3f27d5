import { Duplex } from 'node:stream';
import type { Life, Loop } from './loop.ts';
import type { Random } from './random.ts';

/** How a path between two hosts carries. */
export interface Quality {
  readonly leastNs: number;
  readonly mostNs: number;
  /** Of segments, so many are lost and sent again. */
  loss: number;
  /** Of writes, so many arrive in several pieces. */
  split: number;
}

const RESEND_NS = 200e6;
/** A connection over a path that is cut for so long ends. */
const CUT_NS_MAX = 20e9;
const WINDOW_BYTES = 65_536;

export class SocketError extends Error {
  readonly code: string;

  constructor(code: string) {
    const { stackTraceLimit } = Error;
    // What the network does comes from nowhere in the code.
    Error.stackTraceLimit = 0;
    super(code);
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
  }
}

/** What a listening server is, as far as the network goes. */
export interface Acceptor {
  readonly life: Life;
  accept(socket: SimulatedSocket): void;
  mayAccept(): boolean;
  /** Who it is, to those who connect; null: it does not say. */
  identity?(): unknown;
}

/**
 * One end of a connection: TCP as programs see it. Bytes come in order and whole, late, in other
 * pieces, or not at all where the connection ends; what is not read keeps the other end from
 * writing.
 */
export class SimulatedSocket extends Duplex {
  readonly remoteAddress = '127.0.0.1';
  readonly remotePort = 1;
  readonly localAddress = '127.0.0.1';
  readonly encrypted = false;
  connecting: boolean;
  bytesWritten = 0;
  bytesRead = 0;
  readonly life: Life;
  /** In the order in which sockets were opened. */
  readonly number: number;
  peer: SimulatedSocket | null = null;
  /** Who its process is, to the other end. */
  identity: unknown = null;
  /** Its process has it. */
  isHeard: boolean;
  readonly #net: Network;
  readonly #peerHost: string;
  /** Of the other end. */
  readonly #windowBytes: number;
  /** Sent and not read at the other end. */
  #unreadBytes = 0;
  #arrivesNs = 0;
  /** On their way to the other end, in their order. */
  readonly #way: { readonly atNs: number; readonly action: () => void }[] = [];
  #held: (() => void)[] = [];
  /** Pushed since the last read. */
  #pushedBytes = 0;
  #hasFinished = false;
  #isReset = false;
  #timeoutNs = 0;
  #activeNs = 0;
  #endTimer: (() => void) | null = null;

  constructor(
    net: Network,
    life: Life,
    peerHost: string,
    options: { isConnecting: boolean; allowHalfOpen: boolean; windowBytes?: number },
  ) {
    super({
      allowHalfOpen: options.allowHalfOpen,
      readableHighWaterMark: net.socketBytes,
      writableHighWaterMark: net.socketBytes,
    });
    this.#net = net;
    this.life = life;
    this.#peerHost = peerHost;
    this.connecting = options.isConnecting;
    this.isHeard = options.isConnecting;
    this.#windowBytes = options.windowBytes ?? WINDOW_BYTES;
    this.number = net.opened(this);
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  setTimeout(milliseconds: number, listener?: () => void): this {
    this.#timeoutNs = milliseconds * 1e6;
    if (listener !== undefined && milliseconds === 0) this.off('timeout', listener);
    else if (listener !== undefined) this.once('timeout', listener);
    this.#touch();
    return this;
  }

  resetAndDestroy(): this {
    this.#isReset = true;
    return this.destroy();
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** The other end is there. */
  connected(peer: SimulatedSocket): void {
    this.peer = peer;
    if (!this.connecting) return;
    this.connecting = false;
    this.emit('connect');
    this.emit('ready');
    for (const send of this.#held.splice(0)) send();
  }

  /** The process of the other end, or its machine, is gone. */
  lost(code: string): void {
    if (this.destroyed) return;
    this.peer = null;
    // A process does not hear of what ended before it had it.
    if (this.isHeard) this.destroy(new SocketError(code));
    else this.destroy();
  }

  /** Something on the way ends the connection for both. */
  breakOff(): void {
    const { peer } = this;
    this.life.at(this.#net.nowNs, () => this.lost('ECONNRESET'));
    peer?.life.at(this.#net.nowNs, () => peer.lost('ECONNRESET'));
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#send(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _read(): void {
    const bytes = this.#pushedBytes;
    if (bytes === 0) return;
    this.#pushedBytes = 0;
    const { peer } = this;
    if (peer === null) return;
    peer.life.at(this.#net.arrivalNs(0), () => peer.#read(bytes));
  }

  override _final(done: (error?: Error) => void): void {
    const finish = () => {
      this.#hasFinished = true;
      const { peer } = this;
      if (peer !== null) this.#arrive(() => peer.push(null));
      done();
    };
    if (this.connecting) this.#held.push(finish);
    else finish();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#endTimer?.();
    this.#net.closed(this);
    const { peer } = this;
    this.peer = null;
    if (peer !== null && !peer.destroyed) {
      const isReset = this.#isReset || this.readableLength > 0 || this.#pushedBytes > 0;
      this.#arrive(() => {
        if (peer.destroyed) return;
        if (isReset) peer.lost('ECONNRESET');
        else if (!this.#hasFinished) {
          peer.push(null);
          peer.peer = null;
        }
      }, peer);
    }
    done(error);
  }

  #send(bytes: Buffer, done: () => void): void {
    if (this.connecting) {
      this.#held.push(() => this.#send(bytes, done));
      return;
    }
    this.#touch();
    this.bytesWritten += bytes.length;
    const { peer } = this;
    // Nobody is there any more: what is sent is lost, and the end is heard of soon.
    if (peer === null || peer.destroyed) {
      done();
      return;
    }
    this.#unreadBytes += bytes.length;
    const pieces = this.#net.split(this.life, this.#peerHost, bytes);
    for (const piece of pieces) this.#arrive(() => peer.#receive(piece));
    if (this.#unreadBytes <= this.#windowBytes) done();
    else this.#held.push(done);
  }

  #receive(bytes: Buffer): void {
    if (this.destroyed || this.readableEnded) return;
    this.#touch();
    this.bytesRead += bytes.length;
    this.#pushedBytes += bytes.length;
    if (this.push(bytes)) this._read();
  }

  /** The other end has read so much. */
  #read(bytes: number): void {
    this.#unreadBytes -= bytes;
    this.#touch();
    if (this.#unreadBytes > this.#windowBytes) return;
    for (const goOn of this.#held.splice(0)) goOn();
  }

  /** Behind all that was sent before. */
  #arrive(action: () => void, to = this.peer): void {
    if (to === null) return;
    this.#arrivesNs = this.#net.arrivalNs(this.#arrivesNs);
    this.#way.push({ atNs: this.#arrivesNs, action });
    to.life.at(this.#arrivesNs, () => this.#pump(to));
  }

  #pump(to: SimulatedSocket): void {
    const net = this.#net;
    while (this.#way.length > 0 && this.#way[0]!.atNs <= net.nowNs) {
      const sinceNs = net.cutSinceNs(this.life.host, to.life.host);
      if (sinceNs === null) {
        this.#way.shift()!.action();
        continue;
      }
      if (net.nowNs - sinceNs > CUT_NS_MAX) to.lost('ETIMEDOUT');
      else to.life.at(net.nowNs + RESEND_NS, () => this.#pump(to));
      return;
    }
  }

  #touch(): void {
    this.#activeNs = this.#net.nowNs;
    this.#endTimer?.();
    this.#endTimer = null;
    if (this.#timeoutNs === 0) return;
    this.#endTimer = this.life.at(this.#activeNs + this.#timeoutNs, () => this.emit('timeout'));
  }
}

/** Hosts, what listens on them, and the paths between them. */
export class Network {
  readonly #loop: Loop;
  readonly #random: Random;
  readonly #acceptors = new Map<string, Acceptor>();
  readonly #sockets = new Set<SimulatedSocket>();
  /** Of processes that have ended. */
  readonly #left: SimulatedSocket[] = [];
  readonly #cut = new Map<string, number>();
  /** Which host a name leads to now. */
  resolve: (name: string) => string = (name) => name;
  readonly quality: Quality = { leastNs: 50_000, mostNs: 400_000, loss: 0, split: 0 };
  /** What a socket takes before its writer has to wait. */
  socketBytes = 16_384;
  #ports = 40_000;
  #opened = 0;

  constructor(loop: Loop, random: Random) {
    this.#loop = loop;
    this.#random = random;
  }

  get nowNs(): number {
    return this.#loop.nowNs;
  }

  get sockets(): ReadonlySet<SimulatedSocket> {
    return this.#sockets;
  }

  freePort(): number {
    this.#ports += 1;
    return this.#ports;
  }

  /** Throws SocketError EADDRINUSE. */
  listen(host: string, port: number, acceptor: Acceptor): void {
    const address = `${host}:${port}`;
    const known = this.#acceptors.get(address);
    if (known !== undefined && !known.life.isDead) throw new SocketError('EADDRINUSE');
    this.#acceptors.set(address, acceptor);
  }

  unlisten(host: string, port: number, acceptor: Acceptor): void {
    const address = `${host}:${port}`;
    if (this.#acceptors.get(address) === acceptor) this.#acceptors.delete(address);
  }

  /** `windowBytes`: what may be on its way to who connects, and unread there. */
  connect(life: Life, name: string, port: number, windowBytes?: number): SimulatedSocket {
    const host = this.resolve(name);
    const client = new SimulatedSocket(this, life, host, {
      isConnecting: true,
      allowHalfOpen: false,
    });
    const wayNs = () => this.#random.between(this.quality.leastNs, this.quality.mostNs);
    const giveUpNs = this.nowNs + CUT_NS_MAX;
    const knock = () => {
      if (client.destroyed) return;
      if (this.isCut(life.host, host)) {
        if (this.nowNs >= giveUpNs) life.at(this.nowNs, () => client.lost('ETIMEDOUT'));
        else this.#loop.at(this.nowNs + RESEND_NS, knock, null);
        return;
      }
      const acceptor = this.#acceptors.get(`${host}:${port}`);
      if (acceptor === undefined || acceptor.life.isDead || !acceptor.mayAccept()) {
        life.at(this.nowNs + wayNs(), () => client.lost('ECONNREFUSED'));
        return;
      }
      // The system connects: the process hears of it when it next runs, if it does.
      const server = this.#loop.as(
        acceptor.life,
        () =>
          new SimulatedSocket(this, acceptor.life, life.host, {
            isConnecting: false,
            allowHalfOpen: true,
            ...(windowBytes === undefined ? {} : { windowBytes }),
          }),
      );
      server.peer = client;
      server.identity = acceptor.identity?.() ?? null;
      life.at(this.nowNs + wayNs(), () => client.connected(server));
      acceptor.life.at(this.nowNs, () => {
        if (server.destroyed) return;
        server.isHeard = true;
        acceptor.accept(server);
      });
    };
    this.#loop.at(this.nowNs + wayNs(), knock, null);
    return client;
  }

  isCut(one: string, other: string): boolean {
    return this.#cut.has(pathOf(one, other));
  }

  cut(one: string, other: string): void {
    if (!this.isCut(one, other)) this.#cut.set(pathOf(one, other), this.nowNs);
  }

  heal(): void {
    this.#cut.clear();
  }

  split(life: Life, host: string, bytes: Buffer): Buffer[] {
    const isSplit = life.host !== host && this.#random.chance(this.quality.split);
    if (!isSplit || bytes.length < 2) return [bytes];
    const at = this.#random.between(1, bytes.length - 1);
    return [bytes.subarray(0, at), bytes.subarray(at)];
  }

  /** When what is sent now arrives, not before `afterNs`. */
  arrivalNs(afterNs: number): number {
    const { leastNs, mostNs, loss } = this.quality;
    let delayNs = this.#random.between(leastNs, mostNs);
    while (this.#random.chance(loss)) delayNs += RESEND_NS;
    return Math.max(afterNs, this.nowNs + delayNs);
  }

  /** null: it is not cut. */
  cutSinceNs(one: string, other: string): number | null {
    return this.#cut.size === 0 ? null : (this.#cut.get(pathOf(one, other)) ?? null);
  }

  /** The number of sockets so far. */
  opened(socket: SimulatedSocket): number {
    this.#sockets.add(socket);
    this.#opened += 1;
    return this.#opened;
  }

  closed(socket: SimulatedSocket): void {
    this.#sockets.delete(socket);
  }

  /** When all is over: Node's parsers keep what they belong to until they are closed. */
  closeParsers(): void {
    for (const socket of [...this.#left, ...this.#sockets]) {
      const { parser } = socket as { parser?: NodeParser | null };
      parser?.remove();
      parser?.close();
    }
  }

  /** A process is gone: its system ends its connections. */
  died(life: Life): void {
    for (const socket of [...this.#sockets]) {
      if (socket.life !== life) continue;
      this.#sockets.delete(socket);
      this.#left.push(socket);
      const { peer } = socket;
      if (peer === null || peer.destroyed) continue;
      const atNs = this.nowNs + this.#random.between(this.quality.leastNs, this.quality.mostNs);
      peer.life.at(atNs, () => peer.lost('ECONNRESET'));
    }
  }
}

/** `HTTPParser` of Node, as far as it is ended by hand. */
interface NodeParser {
  remove(): void;
  close(): void;
}

const pathOf = (one: string, other: string) => [one, other].sort().join(' ');
