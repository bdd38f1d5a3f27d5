import type { HostHandle } from '@bridgekeeper/device';
import { KV_PARTS, type MoveFailure, type StoredPart } from '../kv/tiers/movement.ts';
import type { DiskMeter } from './disk-meter.ts';
import type { SealFailure } from './sealed-slots.ts';
import type { StoreThread } from './store-thread.ts';

/** Where a page's part is in host memory. */
export interface HostPart {
  readonly handle: HostHandle;
  readonly offsetBytes: number;
}

export interface DiskStoreOptions {
  readonly thread: Pick<StoreThread, 'do'>;
  readonly partBytes: readonly number[];
  readonly pages: number;
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
  readonly slots: readonly number[];
  readonly meter: DiskMeter;
  readonly #thread: Pick<StoreThread, 'do'>;
  readonly #partBytes: readonly number[];
  /** Where each group's slots begin in the file. */
  readonly #starts: readonly number[];
  readonly #waiting: (() => void)[] = [];
  #writing = 0;

  constructor({ thread, partBytes, pages, meter }: DiskStoreOptions) {
    this.meter = meter;
    this.#thread = thread;
    this.#partBytes = partBytes;
    let start = 0;
    this.#starts = partBytes.map((bytes) => {
      const at = start;
      start += bytes * pages;
      return at;
    });
    this.slots = partBytes.map(() => pages);
  }

  /** null: it is on the disk. */
  async write(
    tenant: string,
    key: string,
    part: StoredPart,
    from: HostPart,
  ): Promise<MoveFailure | null> {
    if (this.#waiting.length >= WRITES_WAITING_MAX) return 'disk-busy';
    if (this.#writing >= WRITES_AT_ONCE) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#writing += 1;
    }
    try {
      return await this.#do('write', tenant, key, part, from);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#writing -= 1;
      else next();
    }
  }

  /** null: it is in host memory. */
  read(tenant: string, key: string, part: StoredPart, to: HostPart): Promise<MoveFailure | null> {
    return this.#do('read', tenant, key, part, to);
  }

  drop(parts: readonly StoredPart[]): void {
    const positions = parts.map((part) => this.#position(part));
    void this.#thread.do({ kind: 'drop', positions });
  }

  dropAll(): void {
    void this.#thread.do({ kind: 'drop-all' });
  }

  async #do(
    kind: 'read' | 'write',
    tenant: string,
    key: string,
    part: StoredPart,
    { handle, offsetBytes }: HostPart,
  ): Promise<SealFailure | null> {
    const bytes = this.#partBytes[KV_PARTS.indexOf(part.part)]!;
    const end = this.meter.begin(kind, bytes);
    const failure = await this.#thread.do({
      kind,
      position: this.#position(part),
      identity: { tenant, group: KV_PARTS.indexOf(part.part), key },
      host: handle,
      hostOffsetBytes: offsetBytes,
      bytes,
    });
    end(failure === null);
    return failure;
  }

  #position({ part, slot }: StoredPart): number {
    const group = KV_PARTS.indexOf(part);
    return this.#starts[group]! + slot * this.#partBytes[group]!;
  }
}
