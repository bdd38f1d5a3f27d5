import type { HostMemoryKind } from '@bridgekeeper/bridge';
import { type Device, DeviceError, type HostBuffer, type HostHandle } from '@bridgekeeper/device';
import type { KvPart } from '../kv/tiers/movement.ts';
import { type PartSize, pieceCount, type SlotCounts, type SlotPiece } from './part-places.ts';

/** Where a piece's bytes are. */
export interface HostPlace {
  readonly host: HostBuffer;
  readonly offsetBytes: number;
}

export interface HostStoreOptions {
  readonly device: Device;
  readonly memory: HostMemoryKind;
  readonly parts: readonly PartSize[];
  /** What the store may come to hold. */
  readonly slots: SlotCounts;
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

/** Blocks with the pieces of one part. */
interface PartBlocks {
  readonly pieceBytes: number;
  readonly piecesOfSlot: number;
  readonly piecesOfBlock: number;
  /** So many come to be. */
  readonly count: number;
  readonly blocks: HostBuffer[];
}

/**
 * Host memory for KV, in slots: never registered with the driver, which confidential computing
 * refuses, but allocated and touched block by block in the background, long before it is needed.
 * It ends where the system gives no more.
 */
export class HostStore {
  /** What may come to be. */
  readonly slots: SlotCounts;
  readonly #options: HostStoreOptions;
  readonly #blocks: ReadonlyMap<KvPart, PartBlocks>;
  #isRefused = false;
  #isClosed = false;
  #grown: Promise<void> | null = null;

  constructor(options: HostStoreOptions) {
    const { parts, slots, blockBytes } = options;
    this.#options = options;
    this.slots = slots;
    this.#blocks = new Map(
      parts.map((size) => {
        const { part, pieceBytes } = size;
        const piecesOfSlot = pieceCount(size);
        const pieces = (slots[part] ?? 0) * piecesOfSlot;
        const most = Math.max(1, Math.floor(blockBytes / pieceBytes));
        const count = Math.ceil(pieces / most);
        // Of one size, and together no more than was asked for.
        const piecesOfBlock = Math.ceil(pieces / Math.max(1, count));
        return [part, { pieceBytes, piecesOfSlot, piecesOfBlock, count, blocks: [] }];
      }),
    );
  }

  /** Bytes that can be used now. */
  get readyBytes(): number {
    let bytes = 0;
    for (const each of this.#blocks.values()) bytes += each.blocks.length * blockBytesOf(each);
    return bytes;
  }

  /** Begins to allocate everything, and resolves when there is no more to come. */
  grow(): Promise<void> {
    this.#grown ??= this.#allocateAll();
    return this.#grown;
  }

  async #allocateAll(): Promise<void> {
    const { device, memory, touch, availableBytes } = this.#options;
    const { clock } = device;
    if (device.info.isHollow === true) {
      // What a modelled GPU holds is nowhere, and may be more than this machine has.
      for (const each of this.#blocks.values()) {
        if (each.count === 0) continue;
        const block = device.allocateHost(blockBytesOf(each), memory, 'kv host blocks');
        for (let i = 0; i < each.count; i++) each.blocks.push(block);
      }
      return;
    }
    for (let next = this.#next(); next !== null && !this.#isClosed; next = this.#next()) {
      const [part, of] = next;
      const bytes = blockBytesOf(of);
      if (bytes + RESERVE_BYTES > availableBytes()) {
        this.#isRefused = true;
        return;
      }
      const startedNs = clock.nowNs();
      let block: HostBuffer;
      try {
        block = device.allocateHost(bytes, memory, `kv host block ${of.blocks.length} of ${part}`);
      } catch (error) {
        if (!(error instanceof DeviceError || error instanceof RangeError)) throw error;
        this.#isRefused = true;
        return;
      }
      const allocatedNs = clock.nowNs();
      await touch(device.hostHandle(block));
      if (this.#isClosed) return;
      of.blocks.push(block);
      await clock.sleepUntilNs(allocatedNs + (allocatedNs - startedNs) / GROWING_SHARE);
    }
  }

  /** Whose block is next: all parts grow alike, since one is of little use without another. */
  #next(): readonly [KvPart, PartBlocks] | null {
    const done = ({ blocks, count }: PartBlocks) => blocks.length / count;
    let least: readonly [KvPart, PartBlocks] | null = null;
    for (const entry of this.#blocks) {
      const { blocks, count } = entry[1];
      if (blocks.length === count) continue;
      if (least === null || done(entry[1]) < done(least[1])) least = entry;
    }
    return least;
  }

  /** `later`: its memory is still to come; `never`: it was refused. */
  place({ part, slot, piece }: SlotPiece): HostPlace | 'later' | 'never' {
    const { blocks, pieceBytes, piecesOfSlot, piecesOfBlock } = this.#blocks.get(part)!;
    const number = slot * piecesOfSlot + piece.index;
    const host = blocks[Math.floor(number / piecesOfBlock)];
    if (host === undefined) return this.#isRefused ? 'never' : 'later';
    return { host, offsetBytes: (number % piecesOfBlock) * pieceBytes };
  }

  close(): void {
    this.#isClosed = true;
    const all = [...this.#blocks.values()].flatMap(({ blocks }) => blocks.splice(0));
    for (const block of new Set(all)) this.#options.device.freeHost(block);
  }
}

function blockBytesOf({ pieceBytes, piecesOfBlock }: PartBlocks): number {
  return pieceBytes * piecesOfBlock;
}
