import { Worker } from 'node:worker_threads';
import type { Clock } from '@bridgekeeper/bridge';
import { invariant } from '@bridgekeeper/bridge';
import type { Device, HostBuffer, HostHandle } from '@bridgekeeper/device';
import { ModelError, type ModelErrorCode } from '../models/errors.ts';
import { decryptChunk } from '../seal/cipher.ts';
import type { Checkpoint } from './checkpoint.ts';
import { type ChunkFile, type ChunkTimes, fillChunk, openChunkFile } from './chunk-file.ts';
import type { Chunk } from './chunks.ts';

/** The files that a reading thread's orders are about from now on. */
export interface ReadFiles {
  readonly files: readonly ChunkFile[];
}

export interface ReadOrder {
  readonly number: number;
  readonly file: number;
  readonly position: number;
  readonly bytes: number;
  readonly direct: boolean;
  readonly target: HostHandle;
}

export type ReadReply =
  | ({ readonly kind: 'read'; readonly number: number } & ChunkTimes)
  | {
      readonly kind: 'failed';
      readonly number: number;
      readonly code: ModelErrorCode;
      readonly message: string;
    };

/** Whoever fills host memory with the plain bytes of chunks. */
export interface ChunkReads {
  read(chunk: Chunk, target: HostBuffer, direct: boolean): Promise<ChunkTimes>;
  close(): Promise<void>;
}

/** Reads on this thread. */
export function readsInThread(checkpoint: Checkpoint, clock: Clock): ChunkReads {
  const files = checkpoint.chunkFiles.map((file) => openChunkFile(file));
  const how = { nowNs: () => clock.nowNs(), direct: false, decrypt: decryptChunk };
  return {
    read: async ({ file, filePosition, bytes }, target) => {
      const place = target.bytes.subarray(0, bytes);
      return fillChunk(files[file]!, filePosition, place, how);
    },
    close: async () => {
      for (const file of files) file.close();
    },
  };
}

interface Pending {
  resolve(times: ChunkTimes): void;
  reject(error: unknown): void;
}

/** Reading threads, started ahead: that takes longer than opening files. */
export class ReaderPool {
  readonly #workers: Worker[] = [];

  /** Starts threads until there are `count`. */
  grow(count: number): void {
    while (this.#workers.length < count) {
      const worker = new Worker(new URL('./read-worker.js', import.meta.url));
      // Whoever reads with it hears of errors; before that there is nobody to tell.
      worker.on('error', () => undefined);
      this.#workers.push(worker);
    }
  }

  /** The first `count` threads, started where they were not. */
  workers(count: number): readonly Worker[] {
    this.grow(count);
    return this.#workers.slice(0, count);
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }
}

/** Reads on threads of their own: each takes the next chunk as soon as it is done with one. */
export class ThreadedReads implements ChunkReads {
  readonly #device: Device;
  readonly #workers: readonly Worker[];
  readonly #idle: number[] = [];
  readonly #orders: ReadOrder[] = [];
  readonly #pending = new Map<number, Pending>();
  readonly #leave: (() => void)[] = [];
  #nextNumber = 0;
  #failure: Error | undefined;

  constructor(device: Device, checkpoint: Checkpoint, workers: readonly Worker[]) {
    this.#device = device;
    this.#workers = workers;
    const files: ReadFiles = { files: checkpoint.chunkFiles };
    for (const [index, worker] of workers.entries()) {
      worker.postMessage(files);
      const settle = (reply: ReadReply) => this.#settle(index, reply);
      const fail = (error: Error) => this.#fail(error);
      const end = () => this.#fail(new Error(`thread ${index} ended`));
      worker.on('message', settle).on('error', fail).on('exit', end);
      this.#leave.push(() => worker.off('message', settle).off('error', fail).off('exit', end));
      this.#idle.push(index);
    }
  }

  read({ file, filePosition, bytes }: Chunk, target: HostBuffer, direct: boolean) {
    invariant(bytes <= target.bytes.length, 'a chunk fits its slot');
    const number = this.#nextNumber++;
    const handle = this.#device.hostHandle(target);
    this.#orders.push({ number, file, position: filePosition, bytes, direct, target: handle });
    return new Promise<ChunkTimes>((resolve, reject) => {
      this.#pending.set(number, { resolve, reject });
      this.#deal();
    });
  }

  #deal(): void {
    if (this.#failure !== undefined) this.#fail(this.#failure);
    while (this.#idle.length > 0 && this.#orders.length > 0) {
      this.#workers[this.#idle.shift()!]!.postMessage(this.#orders.shift()!);
    }
  }

  #settle(worker: number, reply: ReadReply): void {
    this.#idle.push(worker);
    const pending = this.#pending.get(reply.number);
    this.#pending.delete(reply.number);
    if (reply.kind === 'read') pending?.resolve(reply);
    else pending?.reject(new ModelError(reply.code, reply.message));
    this.#deal();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    const cause = this.#failure;
    for (const { reject } of this.#pending.values()) {
      reject(new ModelError('unreadable', `a reading thread failed: ${cause.message}`, { cause }));
    }
    this.#pending.clear();
    this.#orders.length = 0;
  }

  /** The threads stay with their pool. */
  async close(): Promise<void> {
    for (const leave of this.#leave) leave();
  }
}
