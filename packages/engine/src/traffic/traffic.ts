import {
  CHUNK_BYTES_MIN,
  type Crossing,
  type CrossingRecord,
  chunkBytesWithin,
  invariant,
  isUrgent,
  Ledger,
  type LedgerSnapshot,
  type Profile,
  type Purpose,
  SHARED_TENANT,
} from '@bridgekeeper/bridge';
import {
  type Device,
  type Lane,
  type LaneOptions,
  type Slice,
  type Stream,
  slice,
  type UploadedCopy,
  type UploaderStart,
  type UploadTarget,
} from '@bridgekeeper/device';
import { LanePool } from './lane-pool.ts';
import { Route } from './route.ts';
import { CrossingShares, type Resident } from './shares.ts';

export interface TrafficOptions {
  readonly device: Device;
  /** What crossings are thought to cost here: bulk is cut by it. null: nothing is known. */
  readonly profile: Profile | null;
  /** Told of every crossing once it is in the ledger. */
  readonly onCrossing?: ((record: CrossingRecord) => void) | undefined;
}

/** A piece of bulk takes no longer than this; an urgent crossing waits for those its lane holds. */
const PIECE_NS = 10e6;
/** A worker thread's next copy lies in its queue; the launching thread's asynchronous ones more. */
const WORKER_TURNS = 2;
const LAUNCHING_TURNS = 4;
const STAGING_BYTES = 16 * 1024 * 1024;

/**
 * The one place that bytes cross at, between this process and its device: it owns every lane, lets
 * the bridge's scheduler say which crossing goes next (`Route`), writes all of them in the ledger,
 * and divides them among requests (`CrossingShares`). Who has bytes to move asks for a route and
 * says purpose and tenant. Threads that copy up by themselves what they have read, where no law is
 * in the way, get from here what they need for it and account for it here.
 */
export class Traffic {
  /** Of the law that the device imposes; `off` where it imposes none. */
  readonly lawName: string;
  /** The launching thread's own lane. */
  readonly launching: Route;
  readonly #device: Device;
  readonly #profile: Profile | null;
  readonly #ledger: Ledger;
  /** Of the ranks that had something of their own to move. */
  readonly #ranks = new Map<number, Traffic>();
  readonly #pool: LanePool;
  readonly #pieceBytes: (crossing: Crossing) => number;
  readonly #onCrossing: TrafficOptions['onCrossing'];
  /** Over the pool's lanes, while there is one. */
  #bulk: Route | null = null;
  /** A rank's own lane in its launching context, once it had bulk: see `bulkRoute`. */
  #rankLane: Promise<Lane> | null = null;
  readonly #isRank: boolean;
  /** What uploads from this thread's heap are queued on, once there was one. */
  #uploads: Stream | null = null;

  constructor({ device, profile, onCrossing }: TrafficOptions, ledger?: Ledger) {
    this.#device = device;
    this.#profile = profile;
    this.#onCrossing = onCrossing;
    this.lawName = device.law?.profile.name ?? 'off';
    this.#isRank = ledger !== undefined;
    this.#ledger = ledger ?? new Ledger({ law: this.lawName, openedNs: device.clock.nowNs() });
    this.#pool = new LanePool(device);
    this.#pieceBytes = pieceBytesOn(profile);
    this.launching = this.#route([device.inlineLane], LAUNCHING_TURNS);
  }

  /** What crosses to one rank of the device alone, in the same ledger. */
  ofRank(device: Device, index: number): Traffic {
    let own = this.#ranks.get(index);
    if (own === undefined) {
      const options = { device, profile: this.#profile, onCrossing: this.#onCrossing };
      own = new Traffic(options, this.#ledger);
      this.#ranks.set(index, own);
    }
    return own;
  }

  /** Begins to open so many lanes with contexts of their own: that takes its time. */
  reserve(contexts: number): void {
    this.#pool.grow(contexts);
  }

  /** Whether bulk over so many contexts is carried by other threads than the launching one. */
  hasBulkThread(contexts: number): boolean {
    return contexts > 0 || this.#isRank;
  }

  /** Begins to open what `bulkRoute` will need. */
  reserveBulk(contexts: number): void {
    if (contexts > 0) this.#pool.grow(contexts);
    else if (this.#isRank) void this.#openRankLane().catch(() => undefined);
  }

  /**
   * A route over so many contexts, for bulk: none means the launching thread's, or, on a rank of
   * several, that of a thread of its own: the launching thread, where it stands still for a
   * crossing, would do so for one rank at a time. Fewer where the machine refused some; throws
   * DeviceError when it refused all. There is one at a time: an earlier one is closed.
   */
  async bulkRoute(contexts: number): Promise<Route> {
    this.#endBulk();
    if (!this.hasBulkThread(contexts)) return this.launching;
    const lanes = contexts === 0 ? [await this.#openRankLane()] : await this.#pool.lanes(contexts);
    this.#bulk = this.#route(lanes, WORKER_TURNS);
    return this.#bulk;
  }

  /**
   * A route of one lane of its own; with a context of its own, a lane is taken over that was
   * reserved. Throws DeviceError.
   */
  async openRoute(label: string, context: LaneOptions['context'] = 'own'): Promise<Route> {
    // Only the pool's lanes are the bulk route's.
    if (context === 'own') this.#endBulk();
    const lane =
      context === 'own'
        ? await this.#pool.take(label)
        : await this.#device.openLane({ label, context });
    return this.#route([lane], WORKER_TURNS);
  }

  /** Closes a route that `openRoute` opened, and its lane. Its crossings are done. */
  async closeRoute(route: Route): Promise<void> {
    invariant(route !== this.launching && route !== this.#bulk, 'only opened routes are closed');
    route.close();
    await Promise.all(route.lanes.map((lane) => lane.close()));
  }

  /** Closes the lanes that were reserved and not taken over. What this returns never rejects. */
  async closeReserved(): Promise<void> {
    this.#endBulk();
    const ranks = [...this.#ranks.values()].map((rank) => rank.closeReserved());
    const rankLane = this.#rankLane?.then((lane) => lane.close());
    this.#rankLane = null;
    await Promise.allSettled([this.#pool.close(), rankLane, ...ranks]);
  }

  /** For threads that copy up what they read; null under an imposed law: lanes make all copies. */
  threadUploads(): ThreadUploads | null {
    const start = this.#device.uploaderStart();
    if (start === null) return null;
    return new ThreadUploads(this.#device, start, (record) => this.#record(record));
  }

  /**
   * Brings bytes of this thread's heap to the device through one staging buffer, on the launching
   * thread's route. `to` is at least as long. A number: so many bytes of nothing, which nobody
   * reads. Throws DeviceError.
   */
  async upload(
    content: Uint8Array | number,
    to: Slice,
    purpose: Purpose = 'weights',
  ): Promise<void> {
    const bytes = typeof content === 'number' ? null : content;
    const length = typeof content === 'number' ? content : content.length;
    if (length === 0) return;
    const device = this.#device;
    this.#uploads ??= device.createStream('upload');
    const stream = this.#uploads;
    const stagingBytes = Math.min(STAGING_BYTES, length);
    const host = device.allocateHost(stagingBytes, 'pinned', 'upload staging');
    try {
      for (let start = 0; start < length; start += stagingBytes) {
        const partBytes = Math.min(stagingBytes, length - start);
        if (bytes !== null) host.bytes.set(bytes.subarray(start, start + partBytes));
        await this.launching.cross({
          direction: 'h2d',
          device: slice(to.buffer, to.offsetBytes + start, partBytes),
          host,
          hostOffsetBytes: 0,
          stream,
          purpose,
          tenant: SHARED_TENANT,
        });
      }
    } finally {
      device.freeHost(host);
    }
  }

  /**
   * What `from` holds once the work queued on `stream` is done, by one crossing on the launching
   * thread's route. Throws DeviceError.
   */
  async download(from: Slice, stream: Stream, purpose: Purpose): Promise<Uint8Array> {
    if (from.bytes === 0) return new Uint8Array(0);
    const device = this.#device;
    const host = device.allocateHost(from.bytes, 'pinned', 'download');
    try {
      await this.launching.cross({
        direction: 'd2h',
        device: from,
        host,
        hostOffsetBytes: 0,
        stream,
        purpose,
        tenant: SHARED_TENANT,
      });
      return host.bytes.slice();
    } finally {
      device.freeHost(host);
    }
  }

  /** The account of everything that crossed, now. */
  snapshot(): LedgerSnapshot {
    return this.#ledger.snapshot(this.#device.clock.nowNs());
  }

  /** Divides what crosses from now on among the requests it crosses for. */
  openShares<R extends Resident>(): CrossingShares<R> {
    return new CrossingShares(this.#ledger);
  }

  #route(lanes: Route['lanes'], turnsPerLane: number): Route {
    for (const lane of lanes) this.#ledger.addLane(lane);
    return new Route(lanes, {
      turnsPerLane,
      pieceBytes: this.#pieceBytes,
      onRecord: (record) => this.#record(record),
    });
  }

  #record(record: CrossingRecord): void {
    this.#ledger.record(record);
    this.#onCrossing?.(record);
  }

  #openRankLane(): Promise<Lane> {
    this.#rankLane ??= this.#device.openLane({ label: 'weights', context: 'shared' });
    return this.#rankLane;
  }

  #endBulk(): void {
    this.#bulk?.close();
    this.#bulk = null;
  }
}

/** Copies that threads make by themselves, in the launching thread's context. */
export class ThreadUploads {
  /** What another thread opens its uploader with (`uploader-thread.ts`). Plain data. */
  readonly start: UploaderStart;
  readonly #device: Device;
  readonly #record: (record: CrossingRecord) => void;

  constructor(device: Device, start: UploaderStart, record: (record: CrossingRecord) => void) {
    this.#device = device;
    this.start = start;
    this.#record = record;
  }

  /**
   * Where a thread may put bytes; what is queued on `stream` until this resolves comes before them.
   * Throws DeviceError.
   */
  target(to: Slice, stream: Stream): Promise<UploadTarget> {
    return this.#device.uploadTarget(to, stream);
  }

  /** Takes in what thread `thread` says it has copied, from pinned memory. */
  record(
    thread: number,
    purpose: Purpose,
    copies: readonly UploadedCopy[],
  ): readonly CrossingRecord[] {
    const lane = `reader-${thread}`;
    return copies.map((copy) => {
      const record: CrossingRecord = {
        direction: 'h2d',
        purpose,
        tenant: SHARED_TENANT,
        memory: 'pinned',
        lane,
        ...copy,
      };
      this.#record(record);
      return record;
    });
  }
}

/** How large pieces of bulk may be, by what is known of the bridge. */
function pieceBytesOn(profile: Profile | null): (crossing: Crossing) => number {
  const known = new Map<string, number>();
  return ({ purpose, direction, memory, bytes }) => {
    if (profile === null || isUrgent(purpose)) return bytes;
    const way = `${direction} ${memory}`;
    let most = known.get(way);
    if (most === undefined) {
      most = mostBytesWithin(profile, direction, memory);
      known.set(way, most);
    }
    return most;
  };
}

function mostBytesWithin(
  profile: Profile,
  direction: Crossing['direction'],
  memory: Crossing['memory'],
): number {
  try {
    return chunkBytesWithin(profile, direction, memory, PIECE_NS);
  } catch (error) {
    // A bridge so slow that the smallest piece takes longer.
    if (error instanceof RangeError) return CHUNK_BYTES_MIN;
    throw error;
  }
}
