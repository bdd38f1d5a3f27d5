import type { Uploader } from '@bridgekeeper/device/threads';
import { DeviceError, openHostHandle } from '@bridgekeeper/device/threads';
import {
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

/** The owner's end of a reading thread. */
export interface ReadPort {
  postMessage(reply: ReadReply): void;
  on(event: 'message', listener: (message: ReadMessage) => void): unknown;
}

/**
 * A reading thread: fills host memory that lanes copy from, or copies up what it read by itself.
 */
export function serveReads(port: ReadPort, nowNs: () => number): void {
  const reads = new ThreadReads((reply) => port.postMessage(reply), nowNs);
  // Orders wait for the files that they are about.
  let ready: Promise<void> = Promise.resolve();
  port.on('message', (message) => {
    if (message.kind === 'files') {
      ready = reads.takeFiles(message);
      // Every order hears of it.
      ready.catch(() => undefined);
    } else if (message.kind === 'end') {
      // Whoever ends a thread does so once it says this: in the middle of a call of the driver that
      // would end the process.
      const end = () => reads.end();
      void ready.then(end, end);
    } else {
      const refuse = (error: unknown) => reads.refuse(message, error);
      void ready.then(() => reads.obey(message), refuse);
    }
  });
}

/** What one thread holds of one load. */
class ThreadReads {
  readonly #send: (reply: ReadReply) => void;
  readonly #nowNs: () => number;
  readonly #opened = new Map<number, OpenChunkFile>();
  readonly #views = new Map<string, Uint8Array>();
  #files: ReadFiles['files'] = [];
  #decrypt: FillOptions['decrypt'] = null;
  #uploader: Uploader | null = null;
  #uploads: ChunkUploads | null = null;
  #willFinish = false;

  constructor(send: (reply: ReadReply) => void, nowNs: () => number) {
    this.#send = send;
    this.#nowNs = nowNs;
  }

  async takeFiles(message: ReadFiles): Promise<void> {
    this.#leaveFiles();
    this.#files = message.files;
    // Deciphering comes with much that plain files do not need.
    const isEncrypted = this.#files.some(({ sealed }) => sealed !== null);
    this.#decrypt = isEncrypted ? (await import('../../seal/cipher.ts')).decryptChunk : null;
    if (message.uploads !== null) await this.#openUploads(message.uploads);
  }

  obey(order: ReadOrder | UploadOrder): void {
    const { number, position, bytes } = order;
    try {
      if (order.kind === 'upload') {
        this.#uploads!.upload(order);
        this.#finishLater();
      } else {
        const start = order.targetOffsetBytes;
        const target = this.#viewOf(order).subarray(start, start + bytes);
        this.#send({
          kind: 'done',
          number,
          times: this.#fill(order, position, target),
          copies: [],
        });
      }
    } catch (error) {
      const failure = failureOf(error);
      this.#send({ kind: 'failed', number, failure });
      if (failure.of === 'device') this.#abandon(failure);
    }
  }

  refuse({ number }: ReadOrder | UploadOrder, error: unknown): void {
    this.#send({ kind: 'failed', number, failure: failureOf(error) });
  }

  end(): void {
    this.#leaveFiles();
    this.#send({ kind: 'ended' });
  }

  #viewOf({ target }: ReadOrder): Uint8Array {
    if (target.kind === 'shared') return openHostHandle(target);
    const key = `${target.address}+${target.bytes}`;
    let view = this.#views.get(key);
    if (view === undefined) {
      view = openHostHandle(target);
      this.#views.set(key, view);
    }
    return view;
  }

  #fill({ file, direct }: ReadOrder | UploadOrder, position: number, target: Uint8Array) {
    let source = this.#opened.get(file);
    if (source === undefined) {
      source = openChunkFile(this.#files[file]!);
      this.#opened.set(file, source);
    }
    const decrypt = this.#decrypt;
    return fillChunk(source, position, target, { nowNs: this.#nowNs, direct, decrypt });
  }

  async #openUploads({ start, buffers }: ReaderUploads): Promise<void> {
    const uploader = await openThreadUploader(start);
    const onDone: ChunkUploadsOptions['onDone'] = ({ number, times, copies }) => {
      this.#send({ kind: 'done', number, times, copies });
    };
    const fill: ChunkUploadsOptions['fill'] = (order, position, target) =>
      this.#fill(order, position, target);
    this.#uploader = uploader;
    this.#uploads = new ChunkUploads({ uploader, buffers, fill, onDone });
  }

  /** Once no order is there that could be read meanwhile. */
  #finishLater(): void {
    if (this.#willFinish) return;
    this.#willFinish = true;
    setImmediate(() => {
      this.#willFinish = false;
      try {
        this.#uploads?.finish();
      } catch (error) {
        this.#abandon(failureOf(error));
      }
    });
  }

  #abandon(failure: ReadFailure): void {
    for (const number of this.#uploads!.abandon()) this.#send({ kind: 'failed', number, failure });
  }

  /** Nothing of an earlier load is under way. */
  #leaveFiles(): void {
    for (const file of this.#opened.values()) file.close();
    this.#opened.clear();
    this.#views.clear();
    this.#files = [];
    this.#uploader?.close();
    this.#uploader = null;
    this.#uploads = null;
  }
}

function failureOf(error: unknown): ReadFailure {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof DeviceError) return { of: 'device', code: error.code, message };
  const code = error instanceof ModelError ? error.code : 'unreadable';
  return { of: 'model', code, message };
}
