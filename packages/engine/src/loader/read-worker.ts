import { parentPort } from 'node:worker_threads';
import { openHostHandle, SystemClock } from '@bridgekeeper/device/threads';
import { ModelError } from '../models/errors.ts';
import {
  type ChunkFile,
  type FillOptions,
  fillChunk,
  type OpenChunkFile,
  openChunkFile,
} from './chunk-file.ts';
import type { ReadFiles, ReadOrder, ReadReply } from './reads.ts';

// A reading thread: fills host memory that lanes copy from, one chunk at a time.

let files: readonly ChunkFile[] = [];
let decrypt: FillOptions['decrypt'] = null;
const clock = new SystemClock();
const opened = new Map<number, OpenChunkFile>();
const views = new Map<string, Uint8Array>();

function viewOf({ target }: ReadOrder): Uint8Array {
  if (target.kind === 'shared') return openHostHandle(target);
  const key = `${target.address}+${target.bytes}`;
  let view = views.get(key);
  if (view === undefined) {
    view = openHostHandle(target);
    views.set(key, view);
  }
  return view;
}

function make(order: ReadOrder): ReadReply {
  const { number, file, position, bytes, direct } = order;
  try {
    let source = opened.get(file);
    if (source === undefined) {
      source = openChunkFile(files[file]!);
      opened.set(file, source);
    }
    const target = viewOf(order).subarray(0, bytes);
    return {
      kind: 'read',
      number,
      ...fillChunk(source, position, target, { nowNs: () => clock.nowNs(), direct, decrypt }),
    };
  } catch (error) {
    const code = error instanceof ModelError ? error.code : 'unreadable';
    const message = error instanceof Error ? error.message : String(error);
    return { kind: 'failed', number, code, message };
  }
}

async function take(message: ReadFiles): Promise<void> {
  for (const file of opened.values()) file.close();
  opened.clear();
  views.clear();
  files = message.files;
  // Deciphering comes with much that plain files do not need.
  const isEncrypted = files.some(({ sealed }) => sealed !== null);
  decrypt = isEncrypted ? (await import('../seal/cipher.ts')).decryptChunk : null;
}

// Orders wait for the files that they are about.
let ready: Promise<void> = Promise.resolve();
parentPort!.on('message', (message: ReadFiles | ReadOrder) => {
  if ('files' in message) ready = take(message);
  else void ready.then(() => parentPort!.postMessage(make(message)));
});
