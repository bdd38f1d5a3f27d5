import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { hashTreeOf } from '@bridgekeeper/device/threads';
import { ModelError } from '../models/errors.ts';
import { unreadable, unwritable } from '../models/files.ts';
import { chunkSpan, digestOfChunk } from '../seal/chunks.ts';
import { decryptChunk, encryptChunk } from '../seal/cipher.ts';
import { LEAF_BYTES } from '../seal/manifest.ts';
import type { ChunkResult, ChunkWorkerData, WorkFile } from './chunk-work.ts';

const { work, starts, next } = workerData as ChunkWorkerData;
const { task, chunkBytes, key, files } = work;

/** Open files by path. Chunks are taken in order: a thread needs each file once. */
const handles = new Map<string, number>();

function handleOf(path: string, flags: string): number {
  const handle = handles.get(path) ?? openSync(path, flags);
  handles.set(path, handle);
  return handle;
}

function closeAll(): void {
  for (const handle of handles.values()) closeSync(handle);
  handles.clear();
}

/** Fills `into` from the file. Throws ModelError. */
function read(file: WorkFile, offsetBytes: number, into: Uint8Array): void {
  let done = 0;
  while (done < into.length) {
    let count: number;
    try {
      const handle = handleOf(file.path, 'r');
      count = readSync(handle, into, done, into.length - done, offsetBytes + done);
    } catch (error) {
      throw unreadable(`${file.name} at byte ${offsetBytes + done}`, error);
    }
    if (count === 0) {
      const message = `${file.name} ended at byte ${offsetBytes + done} while read`;
      throw new ModelError('wrong-size', message);
    }
    done += count;
  }
}

function write(target: string, name: string, offsetBytes: number, bytes: Uint8Array): void {
  try {
    const handle = handleOf(target, 'r+');
    let done = 0;
    while (done < bytes.length) {
      done += writeSync(handle, bytes, done, bytes.length - done, offsetBytes + done);
    }
  } catch (error) {
    throw unwritable(name, error);
  }
}

const buffer = new Uint8Array(Math.min(chunkBytes, Math.max(...files.map(({ bytes }) => bytes))));

/** Reads one chunk and does the task with it. Throws ModelError. */
function process(file: WorkFile, chunk: number): Pick<ChunkResult, 'digest' | 'tag'> {
  const { offsetBytes, bytes } = chunkSpan(chunkBytes, file.bytes, chunk);
  const content = buffer.subarray(0, bytes);
  read(file, offsetBytes, content);
  if (task === 'verify' && key !== null && file.sealed !== null) {
    decryptChunk(key, file.sealed, file.index, chunk, content, content);
  }
  const digest = digestOfChunk(chunkBytes, file, chunk, hashTreeOf(content, LEAF_BYTES));
  if (task === 'verify') return { digest };
  const tag =
    key === null ? {} : { tag: encryptChunk(key, file, file.index, chunk, content, content) };
  if (file.target !== null) write(file.target, file.name, offsetBytes, content);
  return { digest, ...tag };
}

function resultOf(file: number, chunk: number): ChunkResult {
  const { bytes } = chunkSpan(chunkBytes, files[file]!.bytes, chunk);
  try {
    return { file, chunk, bytes, ...process(files[file]!, chunk) };
  } catch (error) {
    if (!(error instanceof ModelError)) throw error;
    return { file, chunk, bytes, error: { code: error.code, message: error.message } };
  }
}

const taken = new Int32Array(next);
let file = 0;
for (;;) {
  const number = Atomics.add(taken, 0, 1);
  if (number >= starts.at(-1)!) break;
  if (number >= starts[file + 1]!) closeAll();
  while (number >= starts[file + 1]!) file += 1;
  parentPort!.postMessage(resultOf(file, number - starts[file]!));
}
closeAll();
