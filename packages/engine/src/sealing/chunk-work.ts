import { Worker } from 'node:worker_threads';
import { invariant } from '@bridgekeeper/bridge';
import { ModelError, type ModelErrorCode } from '../models/errors.ts';
import { chunkCount } from '../seal/chunks.ts';
import type { SealKey } from '../seal/cipher.ts';
import type { SealedFile } from '../seal/manifest.ts';

/** A file whose chunks are to be read. */
export interface WorkFile {
  /** Index in the seal. */
  readonly index: number;
  readonly name: string;
  readonly bytes: number;
  readonly path: string;
  /** `seal`: the sealed copy, which exists and has the file's length; null where none is made. */
  readonly target: string | null;
  /** `verify`: the file as it was sealed. */
  readonly sealed: SealedFile | null;
}

/** What is done to every chunk of some files. */
export interface ChunkWork {
  /** seal: digest, encrypt under `key`, write to `target`. verify: decrypt with `key`, digest. */
  readonly task: 'seal' | 'verify';
  readonly chunkBytes: number;
  readonly key: SealKey | null;
  readonly files: readonly WorkFile[];
}

/** What a worker thread is started with. */
export interface ChunkWorkerData {
  readonly work: ChunkWork;
  /** How many chunks lie before each file's first, and at last how many there are in all. */
  readonly starts: readonly number[];
  /** One i32: the next chunk that no thread has taken. */
  readonly next: SharedArrayBuffer;
}

/** What came of one chunk. */
export interface ChunkResult {
  /** Index in `ChunkWork.files`. */
  readonly file: number;
  readonly chunk: number;
  readonly bytes: number;
  readonly digest?: string;
  readonly tag?: string;
  /** In place of a digest. */
  readonly error?: { readonly code: ModelErrorCode; readonly message: string };
}

export interface ChunkWorkOptions {
  /** Threads, at most; each holds one chunk in memory. */
  readonly threads: number;
  readonly onResult: (result: ChunkResult) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Works through all chunks on several threads, in no particular order, and calls `onResult` once
 * for each. Rejects, and does no more, when `onResult` throws, a thread ends early, or `signal`
 * aborts: then with its reason.
 */
export async function workThroughChunks(work: ChunkWork, options: ChunkWorkOptions): Promise<void> {
  const starts = [0];
  for (const { bytes } of work.files) {
    starts.push(starts.at(-1)! + chunkCount(work.chunkBytes, bytes));
  }
  const chunks = starts.at(-1)!;
  const next = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const workerData: ChunkWorkerData = { work, starts, next };
  let results = 0;
  const onResult = (result: ChunkResult) => {
    results += 1;
    options.onResult(result);
  };
  options.signal?.throwIfAborted();
  const workers = Array.from({ length: Math.min(options.threads, chunks) }, () => {
    return new Worker(new URL('./chunk-worker.js', import.meta.url), { workerData });
  });
  try {
    const done = Promise.all(workers.map((worker) => finished(worker, onResult)));
    await Promise.race([done, aborted(options.signal)]);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  invariant(results === chunks, `${results} of ${chunks} chunks were worked on`);
}

/** Resolves when a worker has nothing left to do. */
function finished(worker: Worker, onResult: (result: ChunkResult) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.on('message', (result: ChunkResult) => {
      try {
        onResult(result);
      } catch (error) {
        reject(error as Error);
      }
    });
    worker.on('error', reject);
    worker.on('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`a thread that reads chunks ended with ${code}`));
    });
  });
}

/** Never resolves; rejects with the signal's reason. */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(signal?.reason as Error);
    signal?.addEventListener('abort', abort, { once: true });
  });
}

/** The error that a result stands for, in this thread. */
export function errorOf({ error }: ChunkResult): ModelError | undefined {
  return error && new ModelError(error.code, error.message);
}
