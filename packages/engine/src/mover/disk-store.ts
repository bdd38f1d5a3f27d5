import type { HostHandle } from '@bridgekeeper/device';
import type { KvPart, MoveFailure, StoredPart } from '../kv/tiers/movement.ts';
import type { DiskMeter } from './disk-meter.ts';
import { type PartSize, pieceCount, type SlotCounts, type SlotPiece } from './part-places.ts';
import type { SealFailure } from './sealed-slots.ts';
import type { StoreThread } from './store-thread.ts';

/** Where a piece is in host memory. */
export interface HostPiece {
  readonly handle: HostHandle;
  readonly offsetBytes: number;
}

export interface DiskStoreOptions {
  readonly thread: Pick<StoreThread, 'do'>;
  readonly parts: readonly PartSize[];
  readonly slots: SlotCounts;
  /** Learns what reading and writing take. */
  readonly meter: DiskMeter;
}

/** Writes that the thread is given at once: a read waits for no more than these. */
const WRITES_AT_ONCE = 2;
/** Writes that may wait. A disk that falls so far behind takes no more for a while. */
const WRITES_WAITING_MAX = 256;

/**
 * The disk behind the host: sealed slots in one nameless file, written and read by the storage
 * thread. Reads go before the writes that wait.
 */
export class DiskStore {
  readonly slots: SlotCounts;
  readonly meter: DiskMeter;
  readonly #thread: Pick<StoreThread, 'do'>;
  /** Where each part's slots begin in the file. */
  readonly #starts = new Map<KvPart, PartSize & { readonly at: number }>();
  readonly #waiting: (() => void)[] = [];
  #writing = 0;

  constructor({ thread, parts, slots, meter }: DiskStoreOptions) {
    this.slots = slots;
    this.meter = meter;
    this.#thread = thread;
    let at = 0;
    for (const { part, bytes, pieceBytes } of parts) {
      this.#starts.set(part, { part, bytes, pieceBytes, at });
      at += bytes * (slots[part] ?? 0);
    }
  }

  /** null: it is on the disk. */
  async write(
    tenant: string,
    key: string,
    piece: SlotPiece,
    from: HostPiece,
  ): Promise<MoveFailure | null> {
    if (this.#waiting.length >= WRITES_WAITING_MAX) return 'disk-busy';
    if (this.#writing >= WRITES_AT_ONCE) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#writing += 1;
    }
    try {
      return await this.#do('write', tenant, key, piece, from);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#writing -= 1;
      else next();
    }
  }

  /** null: it is in host memory. */
  read(tenant: string, key: string, piece: SlotPiece, to: HostPiece): Promise<MoveFailure | null> {
    return this.#do('read', tenant, key, piece, to);
  }

  drop(stored: StoredPart): void {
    const size = this.#starts.get(stored.part)!;
    const first = this.#position(stored, 0);
    const positions = Array.from(
      { length: pieceCount(size) },
      (_, index) => first + index * size.pieceBytes,
    );
    void this.#thread.do({ kind: 'drop', positions });
  }

  dropAll(): void {
    void this.#thread.do({ kind: 'drop-all' });
  }

  async #do(
    kind: 'read' | 'write',
    tenant: string,
    key: string,
    { part, slot, piece }: SlotPiece,
    { handle, offsetBytes }: HostPiece,
  ): Promise<SealFailure | null> {
    const { fromBytes, bytes } = piece;
    const end = this.meter.begin(kind, bytes);
    const failure = await this.#thread.do({
      kind,
      position: this.#position({ part, slot }, fromBytes),
      identity: { tenant, part, fromBytes, key },
      host: handle,
      hostOffsetBytes: offsetBytes,
      bytes,
    });
    end(failure === null);
    return failure;
  }

  #position({ part, slot }: StoredPart, fromBytes: number): number {
    const { at, bytes } = this.#starts.get(part)!;
    return at + slot * bytes + fromBytes;
  }
}
