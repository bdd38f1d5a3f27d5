import { parentPort } from 'node:worker_threads';
import type { Uploader } from '@bridgekeeper/device/threads';
import { DeviceError, openHostHandle, SystemClock } from '@bridgekeeper/device/threads';
import {
  type ChunkTimes,
  type FillOptions,
  fillChunk,
  type OpenChunkFile,
  openChunkFile,
} from '../../checkpoint/chunk-file.ts';
import { ModelError } from '../../models/errors.ts';
import { openThreadUploader } from '../../traffic/uploader-thread.ts';
import { ChunkUploads, type ChunkUploadsOptions } from './chunk-uploads.ts';
import type {
  ReaderUploads,
  ReadFailure,
  ReadFiles,
  ReadMessage,
  ReadOrder,
  ReadReply,
  UploadOrder,
} from './read-protocol.ts';

// A reading thread: fills host memory that lanes copy from, or copies up what it read by itself.

const port = parentPort!;
const send = (reply: ReadReply) => port.postMessage(reply);
let files: ReadFiles['files'] = [];
let decrypt: FillOptions['decrypt'] = null;
const clock = new SystemClock();
const opened = new Map<number, OpenChunkFile>();
const views = new Map<string, Uint8Array>();
let uploader: Uploader | null = null;
let uploads: ChunkUploads | null = null;
let willFinish = false;

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

function fill(
  { file, direct }: ReadOrder | UploadOrder,
  position: number,
  target: Uint8Array,
): ChunkTimes {
  let source = opened.get(file);
  if (source === undefined) {
    source = openChunkFile(files[file]!);
    opened.set(file, source);
  }
  return fillChunk(source, position, target, { nowNs: () => clock.nowNs(), direct, decrypt });
}

function failureOf(error: unknown): ReadFailure {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof DeviceError) return { of: 'device', code: error.code, message };
  const code = error instanceof ModelError ? error.code : 'unreadable';
  return { of: 'model', code, message };
}

function obey(order: ReadOrder | UploadOrder): void {
  const { number, position, bytes } = order;
  try {
    if (order.kind === 'upload') {
      uploads!.upload(order);
      finishLater();
    } else {
      const start = order.targetOffsetBytes;
      const times = fill(order, position, viewOf(order).subarray(start, start + bytes));
      send({ kind: 'done', number, times, copies: [] });
    }
  } catch (error) {
    const failure = failureOf(error);
    send({ kind: 'failed', number, failure });
    if (failure.of === 'device') abandon(failure);
  }
}

/** Once no order is there that could be read meanwhile. */
function finishLater(): void {
  if (willFinish) return;
  willFinish = true;
  setImmediate(() => {
    willFinish = false;
    try {
      uploads?.finish();
    } catch (error) {
      abandon(failureOf(error));
    }
  });
}

function abandon(failure: ReadFailure): void {
  for (const number of uploads!.abandon()) send({ kind: 'failed', number, failure });
}

/** Nothing of an earlier load is under way. */
function leaveFiles(): void {
  for (const file of opened.values()) file.close();
  opened.clear();
  views.clear();
  files = [];
  uploader?.close();
  uploader = null;
  uploads = null;
}

async function takeFiles(message: ReadFiles): Promise<void> {
  leaveFiles();
  files = message.files;
  // Deciphering comes with much that plain files do not need.
  const isEncrypted = files.some(({ sealed }) => sealed !== null);
  decrypt = isEncrypted ? (await import('../../seal/cipher.ts')).decryptChunk : null;
  if (message.uploads !== null) await openUploads(message.uploads);
}

async function openUploads({ start, buffers }: ReaderUploads): Promise<void> {
  uploader = await openThreadUploader(start);
  const onDone: ChunkUploadsOptions['onDone'] = ({ number, times, copies }) => {
    send({ kind: 'done', number, times, copies });
  };
  uploads = new ChunkUploads({ uploader, buffers, fill, onDone });
}

// Orders wait for the files that they are about.
let ready: Promise<void> = Promise.resolve();
port.on('message', (message: ReadMessage) => {
  if (message.kind === 'files') {
    ready = takeFiles(message);
    // Every order hears of it.
    ready.catch(() => undefined);
  } else if (message.kind === 'end') {
    // Whoever ends a thread does so once it says this: in the middle of a call of the driver that
    // would end the process.
    const end = () => {
      leaveFiles();
      send({ kind: 'ended' });
    };
    void ready.then(end, end);
  } else {
    const { number } = message;
    const refuse = (error: unknown) => send({ kind: 'failed', number, failure: failureOf(error) });
    void ready.then(() => obey(message), refuse);
  }
});
