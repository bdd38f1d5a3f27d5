import type { HostMemoryKind } from '@bridgekeeper/bridge';
import { type Device, DeviceError, type HostBuffer, type HostHandle } from '@bridgekeeper/device';

/** Where a slot's bytes are. */
export interface HostPlace {
  readonly host: HostBuffer;
  readonly offsetBytes: number;
}

export interface HostStoreOptions {
  readonly device: Device;
  readonly memory: HostMemoryKind;
  /** Bytes of one page's part, by group. */
  readonly partBytes: readonly number[];
  /** Pages that the store may come to hold. */
  readonly pages: number;
  /** Host memory is allocated in blocks of about so much; a crossing stays within one. */
  readonly blockBytes: number;
  /** Host memory that could be had now. */
  readonly availableBytes: () => number;
  /** Writes to all of it on another thread, so that the guest has accepted it. */
  readonly touch: (handle: HostHandle) => Promise<void>;
}

/**
 * Host memory that is left to everything else: a system that promised more than it has ends the
 * process when memory is touched.
 */
const RESERVE_BYTES = 2 ** 30;
/** Of this thread's time, so much may go into allocating. */
const GROWING_SHARE = 0.2;

/**
 * Host memory for pages, in slots: never registered with the driver, which confidential computing
 * refuses, but allocated and touched block by block in the background, long before it is needed.
 * It ends where the system gives no more.
 */
export class HostStore {
  /** Slots of each group: what may come to be. */
  readonly slots: readonly number[];
  readonly #options: HostStoreOptions;
  readonly #pagesPerBlock: number;
  /** Where each group's slots begin in a block. */
  readonly #starts: readonly number[];
  readonly #blockBytes: number;
  readonly #blocks: HostBuffer[] = [];
  #isRefused = false;
  #isClosed = false;
  #grown: Promise<void> | null = null;

  constructor(options: HostStoreOptions) {
    const { partBytes, pages, blockBytes } = options;
    const pageBytes = partBytes.reduce((sum, bytes) => sum + bytes, 0);
    this.#options = options;
    this.#pagesPerBlock = Math.max(1, Math.min(pages, Math.floor(blockBytes / pageBytes)));
    this.#blockBytes = this.#pagesPerBlock * pageBytes;
    let start = 0;
    this.#starts = partBytes.map((bytes) => {
      const at = start;
      start += bytes * this.#pagesPerBlock;
      return at;
    });
    this.slots = partBytes.map(() => pages);
  }

  /** Bytes that can be used now. */
  get readyBytes(): number {
    return this.#blocks.length * this.#blockBytes;
  }

  /** Begins to allocate everything, and resolves when there is no more to come. */
  grow(): Promise<void> {
    this.#grown ??= this.#allocateAll();
    return this.#grown;
  }

  async #allocateAll(): Promise<void> {
    const { device, memory, pages, touch, availableBytes } = this.#options;
    const blocks = Math.ceil(pages / this.#pagesPerBlock);
    const { clock } = device;
    if (device.info.isHollow === true) {
      // What a modelled GPU holds is nowhere, and may be more than this machine has.
      const block = device.allocateHost(this.#blockBytes, memory, 'kv host blocks');
      for (let i = 0; i < blocks; i++) this.#blocks.push(block);
      return;
    }
    while (this.#blocks.length < blocks && !this.#isClosed) {
      if (this.#blockBytes + RESERVE_BYTES > availableBytes()) {
        this.#isRefused = true;
        return;
      }
      const startedNs = clock.nowNs();
      let block: HostBuffer;
      try {
        const label = `kv host block ${this.#blocks.length}`;
        block = device.allocateHost(this.#blockBytes, memory, label);
      } catch (error) {
        if (!(error instanceof DeviceError || error instanceof RangeError)) throw error;
        this.#isRefused = true;
        return;
      }
      const allocatedNs = clock.nowNs();
      await touch(device.hostHandle(block));
      if (this.#isClosed) return;
      this.#blocks.push(block);
      await clock.sleepUntilNs(allocatedNs + (allocatedNs - startedNs) / GROWING_SHARE);
    }
  }

  /** `later`: its memory is still to come; `never`: it was refused. */
  place(group: number, slot: number): HostPlace | 'later' | 'never' {
    const host = this.#blocks[Math.floor(slot / this.#pagesPerBlock)];
    if (host === undefined) return this.#isRefused ? 'never' : 'later';
    const within = slot % this.#pagesPerBlock;
    const offsetBytes = this.#starts[group]! + within * this.#options.partBytes[group]!;
    return { host, offsetBytes };
  }

  close(): void {
    this.#isClosed = true;
    const blocks = new Set(this.#blocks.splice(0));
    for (const block of blocks) this.#options.device.freeHost(block);
  }
}
