import { fork } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import type { EngineConfig } from './config/engine-config.ts';
import type { EngineThreadData, FromEngine, ToEngine } from './messages.ts';

/** The server's end of the channel to an engine that runs elsewhere: a `Worker`, or alike. */
export interface EngineChannel {
  postMessage(message: ToEngine): void;
  on(event: 'message', listener: (message: FromEngine) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'exit', listener: (code: number) => void): unknown;
  /** Ends it at once, whatever it does; a thread that is in a call of a driver, when that ends. */
  terminate(): unknown;
}

/**
 * Where an engine runs. A GPU's error can be of the kind that ends all work of its process: CUDA
 * then answers every later call with it, so that only another process can go on.
 */
export type EnginePlace = 'thread' | 'process';

/** Starts what hosts an engine; `config` is given up to it. */
export function openChannel(place: EnginePlace, config: EngineConfig): EngineChannel {
  return place === 'thread' ? thread(config) : childProcess(config);
}

function thread(config: EngineConfig): EngineChannel {
  const workerData: EngineThreadData = { config };
  return new Worker(new URL('./engine-thread.js', import.meta.url), { workerData });
}

function childProcess(config: EngineConfig): EngineChannel {
  const child = fork(new URL('./engine-process.js', import.meta.url), {
    serialization: 'advanced',
    // Standard output is the server's own, for one document.
    stdio: ['ignore', 2, 2, 'ipc'],
  });
  const start: EngineThreadData = { config };
  // One that is gone says so by its exit.
  const send = (message: object) => void (child.connected && child.send(message, () => {}));
  send(unshared(start));
  return {
    postMessage: (message) => send(unshared(message)),
    on: (event: 'message' | 'error' | 'exit', listener: (value: never) => void) =>
      // A signal that ended it leaves no code.
      child.on(event, (value: unknown) => listener((value ?? 1) as never)),
    terminate: () => child.kill('SIGKILL'),
  };
}

/** The same with memory of its own where it has memory that threads share: processes cannot. */
export function unshared<T>(value: T): T {
  if (ArrayBuffer.isView(value)) {
    if (!(value.buffer instanceof SharedArrayBuffer)) return value;
    const { constructor: Kind } = value as unknown as { constructor: new (of: T) => T };
    return new Kind(value);
  }
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(unshared) as T;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unshared(each)])) as T;
}
