import type { HostHandle, UploadedCopy } from '@bridgekeeper/device';
import { openHostHandle, type Uploader } from '@bridgekeeper/device/threads';
import type { ChunkTimes } from '../../checkpoint/chunk-file.ts';
import type { UploadOrder } from './read-protocol.ts';

interface OpenOrder {
  readonly number: number;
  readonly pieces: number;
  readonly times: { readNs: number; decryptNs: number };
  readonly copies: UploadedCopy[];
  isRead: boolean;
}

export interface ChunkUploadsOptions {
  readonly uploader: Uploader;
  readonly buffers: readonly HostHandle[];
  /** Fills `target` with the order's bytes from `position` on. */
  readonly fill: (order: UploadOrder, position: number, target: Uint8Array) => ChunkTimes;
  /** Told of orders whose bytes have all arrived. */
  readonly onDone: (order: Readonly<OpenOrder>) => void;
}

/**
 * Reads chunks piece by piece, and has each piece copied up while it reads the next, also across
 * the border of two chunks.
 */
export class ChunkUploads {
  readonly #options: ChunkUploadsOptions;
  readonly #views: readonly Uint8Array[];
  readonly #pieceBytes: number;
  /** Orders of which copies are under way, or still to come: the oldest first. */
  readonly #open: OpenOrder[] = [];
  #turn = 0;

  constructor(options: ChunkUploadsOptions) {
    this.#options = options;
    this.#views = options.buffers.map(openHostHandle);
    this.#pieceBytes = options.buffers[0]!.bytes;
  }

  /**
   * Reads all of it, and returns while its last copies are under way: `finish` waits. Throws
   * ModelError or DeviceError after all copies that it began have ended.
   */
  upload(order: UploadOrder): void {
    const { bytes, stages, number } = order;
    const pieces = stages === 'read' ? 0 : Math.ceil(bytes / this.#pieceBytes);
    const times = { readNs: 0, decryptNs: 0 };
    const open: OpenOrder = { number, pieces, times, copies: [], isRead: false };
    this.#open.push(open);
    try {
      for (let done = 0; done < bytes; done += this.#pieceBytes) {
        this.#piece(order, open, done, Math.min(this.#pieceBytes, bytes - done));
      }
    } catch (error) {
      try {
        this.finish();
      } finally {
        this.#open.splice(this.#open.indexOf(open), 1);
      }
      throw error;
    }
    open.isRead = true;
    this.#report();
  }

  #piece(order: UploadOrder, { times }: OpenOrder, offsetBytes: number, bytes: number): void {
    const { uploader, buffers, fill } = this.#options;
    const index = this.#turn++ % buffers.length;
    // The copy that this buffer was last read for has been made.
    this.#take(uploader.wait(buffers.length - 1));
    if (order.stages !== 'cross') {
      const target = this.#views[index]!.subarray(0, bytes);
      const { readNs, decryptNs } = fill(order, order.position + offsetBytes, target);
      times.readNs += readNs;
      times.decryptNs += decryptNs;
    }
    if (order.stages !== 'read') {
      const from = { host: buffers[index]!, hostOffsetBytes: 0 };
      const to = { target: order.target, targetOffsetBytes: offsetBytes };
      uploader.begin({ ...from, ...to, bytes });
    }
  }

  /** Waits for every copy. Throws DeviceError. */
  finish(): void {
    this.#take(this.#options.uploader.wait(0));
  }

  #take(copies: readonly UploadedCopy[]): void {
    for (const copy of copies) {
      this.#open.find((order) => order.copies.length < order.pieces)!.copies.push(copy);
    }
    this.#report();
  }

  #report(): void {
    for (let oldest = this.#open[0]; oldest !== undefined; oldest = this.#open[0]) {
      if (!oldest.isRead || oldest.copies.length < oldest.pieces) return;
      this.#open.shift();
      this.#options.onDone(oldest);
    }
  }

  /** The orders that will not be done any more, after a failure of the device. */
  abandon(): readonly number[] {
    return this.#open.splice(0).map(({ number }) => number);
  }
}
