import cryptoModule, { webcrypto } from 'node:crypto';
import fsModule from 'node:fs';
import promisesModule from 'node:fs/promises';
import httpModule from 'node:http';
import httpsModule from 'node:https';
import { syncBuiltinESMExports } from 'node:module';
import netModule from 'node:net';
import { getDefaultHighWaterMark, setDefaultHighWaterMark } from 'node:stream';
import threadsModule from 'node:worker_threads';
import type { Disk, OpenFiles } from '../world/disk.ts';
import type { Life, Loop } from '../world/loop.ts';
import type { Network } from '../world/network.ts';
import { type ThreadMain, workersOf } from '../world/threads.ts';
import { fetchAtOnce } from './fetch.ts';
import { filePromises, simulatedFiles } from './files.ts';
import { keyPair, subtleAtOnce } from './keys.ts';
import { httpServerMethods, serverMethods } from './servers.ts';
import { createTlsServer, secureClient, type TlsOptions } from './tls.ts';

export interface PlatformParts {
  readonly loop: Loop;
  readonly network: Network;
  readonly files: OpenFiles;
  readonly disks: ReadonlyMap<string, Disk>;
  readonly given: ReadonlyMap<string, Buffer>;
  /** What runs in place of a thread's script. */
  readonly mainOf: (script: string) => ThreadMain;
}

// biome-ignore lint/suspicious/noExplicitAny: members are replaced by name
type Any = any;

/** Callbacks of the next turn come after so long. */
const TURN_NS = { least: 1_000, most: 20_000 };

/**
 * Puts the simulation in the place of the machine, for the product and for what it depends on:
 * timers and turns of the event loop, chance, WebCrypto, files, sockets and threads. Everything
 * stays as it is but where it comes from outside. Returns what puts the machine back.
 *
 * The product is told its clock, its device and its stores where it takes them; this is for what
 * is Node's own, and is done once for all packages.
 */
export function install(parts: PlatformParts): () => void {
  const { loop, network } = parts;
  const undo: (() => void)[] = [];
  const replace = (target: Any, name: string, value: unknown) => {
    const before = Object.getOwnPropertyDescriptor(target, name);
    Object.defineProperty(target, name, { value, configurable: true, writable: true });
    undo.push(() => {
      if (before === undefined) delete target[name];
      else Object.defineProperty(target, name, before);
    });
  };
  const life = (): Life => {
    if (loop.current === null) throw new Error('this is called outside of every process');
    return loop.current;
  };

  const turns = new WeakMap<Life, number>();
  const setImmediate = (action: (...args: unknown[]) => void, ...args: unknown[]) => {
    const owner = life();
    const dueNs = loop.nowNs + owner.random.between(TURN_NS.least, TURN_NS.most);
    const atNs = Math.max(turns.get(owner) ?? 0, dueNs);
    turns.set(owner, atNs);
    const cancel = owner.at(atNs, () => action(...args));
    return handleOf(cancel);
  };
  const setTimeout = (action: (...args: unknown[]) => void, delayMs = 1, ...args: unknown[]) => {
    const atNs = loop.nowNs + Math.max(1, Number(delayMs) || 1) * 1e6;
    return handleOf(life().at(atNs, () => action(...args)));
  };
  const setInterval = (action: (...args: unknown[]) => void, delayMs = 1, ...args: unknown[]) =>
    handleOf(life().every(Math.max(1, Number(delayMs) || 1) * 1e6, () => action(...args)));
  const clear = (handle: Any) => handle?.cancel?.();
  replace(globalThis, 'setImmediate', setImmediate);
  replace(globalThis, 'setTimeout', setTimeout);
  replace(globalThis, 'setInterval', setInterval);
  replace(globalThis, 'clearImmediate', clear);
  replace(globalThis, 'clearTimeout', clear);
  replace(globalThis, 'clearInterval', clear);
  replace(performance, 'now', () => loop.nowNs / 1e6);
  replace(Date, 'now', () => loop.current?.unixMs() ?? 0);
  replace(Math, 'random', () => life().random.unit());
  replace(process, 'availableMemory', () => life().availableBytes);

  const fill = (bytes: Any) => {
    const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    life().random.fill(view);
    return bytes;
  };
  const uuid = () => {
    const hex = life().random.bytes(16).toString('hex');
    const parts = [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`];
    return [...parts, `a${hex.slice(17, 20)}`, hex.slice(20)].join('-');
  };
  replace(cryptoModule, 'randomBytes', (count: number) => life().random.bytes(count));
  replace(cryptoModule, 'randomFillSync', fill);
  replace(cryptoModule, 'randomUUID', uuid);
  replace(cryptoModule, 'generateKeyPairSync', (kind: string) => keyPair(kind, life().random));
  replace(webcrypto, 'getRandomValues', fill);
  replace(webcrypto, 'randomUUID', uuid);
  for (const [name, value] of Object.entries(subtleAtOnce(() => life().random))) {
    replace(webcrypto.subtle, name, value);
  }

  const files = simulatedFiles(parts);
  for (const [name, value] of Object.entries(files)) replace(fsModule, name, value);
  for (const [name, value] of Object.entries(filePromises({ ...fsModule, ...files } as Any))) {
    replace(promisesModule, name, value);
  }
  const connect = ({ host, port, onread }: ConnectOptions) => {
    const socket = network.connect(life(), host, port);
    if (onread !== undefined) socket.on('data', (bytes: Buffer) => readInto(onread, bytes));
    return socket;
  };
  replace(netModule, 'connect', connect);
  replace(netModule, 'createConnection', connect);
  replaceClients(replace, loop, network);
  const { globalAgent } = httpModule;
  httpModule.globalAgent = new httpModule.Agent(KEPT);
  undo.push(() => {
    httpModule.globalAgent = globalAgent;
  });
  for (const [name, value] of Object.entries(serverMethods(loop, network))) {
    replace(netModule.Server.prototype, name, value);
  }
  for (const [name, value] of Object.entries(httpServerMethods)) {
    replace(httpModule.Server.prototype, name, value);
  }
  replace(threadsModule, 'Worker', workersOf(loop, parts.mainOf));

  const marks = [true, false].map(
    (isObject) => [isObject, getDefaultHighWaterMark(isObject)] as const,
  );
  // Releases of Node differ in it.
  setDefaultHighWaterMark(false, 16_384);
  undo.push(() => {
    for (const [isObject, mark] of marks) setDefaultHighWaterMark(isObject, mark);
  });
  syncBuiltinESMExports();
  return () => {
    for (const action of undo.reverse()) action();
    syncBuiltinESMExports();
  };
}

/** As Node's own agents are. */
const KEPT = { keepAlive: true, timeout: 5000 } as const;

/** Clients of Node's HTTP: each process has connections of its own. */
function replaceClients(
  replace: (target: Any, name: string, value: unknown) => void,
  loop: Loop,
  network: Network,
): void {
  const { getName } = httpModule.Agent.prototype;
  replace(httpModule.Agent.prototype, 'getName', function (this: Any, options: Any) {
    options.simulatedLife ??= loop.current?.name ?? '';
    return `${getName.call(this, options)}:${options.simulatedLife}`;
  });
  type Options = ConnectOptions & TlsOptions;
  replace(httpModule.Agent.prototype, 'createConnection', ({ host, port }: Options) =>
    network.connect(loop.current!, host, Number(port)),
  );
  replace(httpsModule.Agent.prototype, 'createConnection', (options: Options) => {
    const socket = network.connect(loop.current!, options.host, Number(options.port));
    secureClient(socket, options);
    return socket;
  });
  replace(httpsModule, 'createServer', createTlsServer);
  replace(httpsModule, 'globalAgent', new httpsModule.Agent(KEPT));
  replace(globalThis, 'fetch', fetchAtOnce);
}

interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly onread?: OnRead;
}

/** What Node calls in place of `data`, with what it has read into one buffer. */
interface OnRead {
  readonly buffer: Uint8Array;
  readonly callback: (length: number, buffer: Uint8Array) => boolean;
}

function readInto({ buffer, callback }: OnRead, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += buffer.length) {
    const piece = bytes.subarray(at, at + buffer.length);
    buffer.set(piece);
    callback(piece.length, buffer);
  }
}

function handleOf(cancel: () => void) {
  const handle = {
    cancel,
    ref: () => handle,
    unref: () => handle,
    hasRef: () => true,
    refresh: () => handle,
    [Symbol.toPrimitive]: () => 0,
  };
  return handle;
}
