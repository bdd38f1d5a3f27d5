import { Worker } from 'node:worker_threads';
import type { Clock } from '@bridgekeeper/bridge';
import { invariant } from '@bridgekeeper/bridge';
import {
  type Device,
  DeviceError,
  type HostBuffer,
  type UploadedCopy,
  type UploadTarget,
} from '@bridgekeeper/device';
import type { Checkpoint } from '../../checkpoint/checkpoint.ts';
import { type ChunkTimes, fillChunk, openChunkFile } from '../../checkpoint/chunk-file.ts';
import { ModelError } from '../../models/errors.ts';
import { decryptChunk } from '../../seal/cipher.ts';
import { type Chunk, originOf } from '../tensors/chunks.ts';
import type {
  ReaderUploads,
  ReadFailure,
  ReadFiles,
  ReadMessage,
  ReadOrder,
  ReadReply,
  UploadOrder,
  UploadStages,
} from './read-protocol.ts';

/** Whoever fills host memory with the plain bytes of chunks. Throws ModelError. */
export interface ChunkReads {
  read(chunk: Chunk, target: HostBuffer, direct: boolean): Promise<ChunkTimes>;
  close(): Promise<void>;
}

/** Reads on this thread. */
export function readsInThread(checkpoint: Checkpoint, clock: Clock): ChunkReads {
  const files = checkpoint.chunkFiles.map((file) => openChunkFile(file));
  const how = { nowNs: () => clock.nowNs(), direct: false, decrypt: decryptChunk };
  return {
    read: async (chunk, target) => {
      const { file, filePosition, bytes } = chunk;
      try {
        return fillChunk(files[file]!, filePosition, target.bytes.subarray(0, bytes), how);
      } catch (error) {
        throw error instanceof ModelError ? placed(error, chunk) : error;
      }
    },
    close: async () => {
      for (const file of files) file.close();
    },
  };
}

/** The same error, with the tensor at which it happened. */
function placed(error: ModelError, chunk: Chunk): ModelError {
  return new ModelError(error.code, `${error.message}${originOf(chunk)}`, { cause: error });
}

interface Done {
  readonly times: ChunkTimes;
  readonly copies: readonly UploadedCopy[];
  /** Which thread it was. */
  readonly thread: number;
}

interface Pending {
  readonly chunk: Chunk;
  resolve(done: Done): void;
  reject(error: unknown): void;
}

/** Threads that one GPU's part of a load may have: the first ones, however many it asks for. */
export interface Readers {
  workers(count: number): readonly Worker[];
}

/** Reading threads, started ahead: that takes longer than opening files. */
export class ReaderPool implements Readers {
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

  /** Those from `first` on. */
  from(first: number): Readers {
    return { workers: (count) => this.workers(first + count).slice(first) };
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }
}

type NewOrder = Omit<ReadOrder, 'number'> | Omit<UploadOrder, 'number'>;

/** Deals orders to threads of their own: each takes the next as soon as it has room for one. */
export class ReaderThreads implements ChunkReads {
  readonly #device: Device;
  readonly #files: ReadFiles['files'];
  readonly #workers: readonly Worker[];
  readonly #pieceBytes: number;
  /** Threads with room for an order, once for each. */
  readonly #idle: number[] = [];
  readonly #waiting: { readonly order: NewOrder; readonly pending: Pending }[] = [];
  readonly #pending = new Map<number, Pending>();
  readonly #leave: (() => void)[] = [];
  #nextNumber = 0;
  #failure: Error | undefined;

  /** `pieceBytes`: what a thread reads of a chunk at once, a multiple of the files' grid. */
  constructor(
    device: Device,
    checkpoint: Checkpoint,
    workers: readonly Worker[],
    pieceBytes: number,
  ) {
    this.#device = device;
    this.#pieceBytes = pieceBytes;
    this.#files = checkpoint.chunkFiles;
    this.#workers = workers;
  }

  get count(): number {
    return this.#workers.length;
  }

  /** Threads that read only, one order each. */
  startAll(): this {
    for (const thread of this.#workers.keys()) this.start(thread, 1, null);
    return this;
  }

  /** From now on `thread` is given orders, so many at a time. */
  start(thread: number, orders: number, uploads: ReaderUploads | null): void {
    const worker = this.#workers[thread]!;
    post(worker, { kind: 'files', files: this.#files, uploads });
    const settle = (reply: ReadReply) => this.#settle(thread, reply);
    const fail = (error: Error) => this.#fail(error);
    const end = () => this.#fail(new Error(`thread ${thread} ended`));
    worker.on('message', settle).on('error', fail).on('exit', end);
    this.#leave.push(() => worker.off('message', settle).off('error', fail).off('exit', end));
    for (let i = 0; i < orders; i++) this.#idle.push(thread);
    if (worker.threadId < 0) end();
    this.#deal();
  }

  /** In pieces, each by another thread: few chunks are on their way at once. */
  async read(chunk: Chunk, host: HostBuffer, direct: boolean): Promise<ChunkTimes> {
    invariant(chunk.bytes <= host.bytes.length, 'a chunk fits its slot');
    const target = this.#device.hostHandle(host);
    const orders: Promise<Done>[] = [];
    for (let start = 0; start < chunk.bytes; start += this.#pieceBytes) {
      const bytes = Math.min(this.#pieceBytes, chunk.bytes - start);
      const { file, filePosition } = chunk;
      const range = { file, position: filePosition + start, bytes, targetOffsetBytes: start };
      orders.push(this.#order(chunk, { kind: 'read', ...range, direct, target }));
    }
    // Whoever hears of a failure may free the memory: nobody writes to it any more then.
    const pieces = await Promise.allSettled(orders);
    const times = { readNs: 0, decryptNs: 0 };
    for (const piece of pieces) {
      if (piece.status === 'rejected') throw piece.reason;
      times.readNs += piece.value.times.readNs;
      times.decryptNs += piece.value.times.decryptNs;
    }
    return times;
  }

  /** Resolves when all of it has arrived. Throws ModelError or DeviceError. */
  upload(chunk: Chunk, target: UploadTarget, direct: boolean, stages: UploadStages) {
    invariant(chunk.bytes <= target.bytes, 'a chunk fits its slot');
    return this.#order(chunk, { kind: 'upload', ...rangeOf(chunk), direct, target, stages });
  }

  #order(chunk: Chunk, order: NewOrder): Promise<Done> {
    return new Promise<Done>((resolve, reject) => {
      this.#waiting.push({ order, pending: { chunk, resolve, reject } });
      this.#deal();
    });
  }

  #deal(): void {
    if (this.#failure !== undefined) this.#fail(this.#failure);
    while (this.#idle.length > 0 && this.#waiting.length > 0) {
      const { order, pending } = this.#waiting.shift()!;
      const number = this.#nextNumber++;
      this.#pending.set(number, pending);
      post(this.#workers[this.#idle.shift()!]!, { ...order, number });
    }
  }

  #settle(thread: number, reply: ReadReply): void {
    if (reply.kind === 'ended') return;
    this.#idle.push(thread);
    const pending = this.#pending.get(reply.number);
    this.#pending.delete(reply.number);
    if (reply.kind === 'done') pending?.resolve({ ...reply, thread });
    else pending?.reject(errorOf(reply.failure, pending.chunk, this.#files));
    this.#deal();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    const cause = this.#failure;
    const lost = [...this.#pending.values(), ...this.#waiting.map(({ pending }) => pending)];
    this.#pending.clear();
    this.#waiting.length = 0;
    for (const { reject } of lost) {
      reject(new ModelError('unreadable', `a reading thread failed: ${cause.message}`, { cause }));
    }
  }

  /** The threads stay with their pool; resolves when they hold nothing of this load any more. */
  async close(): Promise<void> {
    for (const leave of this.#leave) leave();
    await Promise.all(this.#workers.map(endLoad));
  }
}

function post(worker: Worker, message: ReadMessage): void {
  worker.postMessage(message);
}

async function endLoad(worker: Worker): Promise<void> {
  // A thread that has ended holds nothing.
  if (worker.threadId < 0) return;
  await new Promise<void>((resolve) => {
    const listen = (reply: ReadReply) => {
      if (reply.kind === 'ended') leave();
    };
    const leave = () => {
      worker.off('message', listen).off('exit', leave);
      resolve();
    };
    worker.on('message', listen).on('exit', leave);
    post(worker, { kind: 'end' });
  });
}

function rangeOf({ file, filePosition, bytes }: Chunk) {
  return { file, position: filePosition, bytes };
}

function errorOf(failure: ReadFailure, chunk: Chunk, files: ReadFiles['files']): Error {
  const { code, message } = failure;
  if (failure.of === 'model') return placed(new ModelError(failure.code, message), chunk);
  const where = `${files[chunk.file]!.name} at ${chunk.filePosition}${originOf(chunk)}`;
  return new DeviceError(code as DeviceError['code'], `${where} did not cross: ${message}`);
}
