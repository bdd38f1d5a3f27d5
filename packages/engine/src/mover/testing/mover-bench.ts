import { type CrossingRecord, referenceProfile } from '@bridgekeeper/bridge';
import { type Device, hash32, type Slice, type Stream, slice } from '@bridgekeeper/device';
import { KV_PARTS, type KvPart, type PageMove, type Settled } from '../../kv/tiers/movement.ts';
import type { Route } from '../../traffic/route.ts';
import { Traffic } from '../../traffic/traffic.ts';
import { DiskMeter } from '../disk-meter.ts';
import { DiskStore } from '../disk-store.ts';
import { HostStore } from '../host-store.ts';
import { LaneBudget, LaneMeter, lanePriceOf } from '../lane-budget.ts';
import { PageMover } from '../page-mover.ts';
import type { PartSize } from '../part-places.ts';
import { StoreThread } from '../store-thread.ts';

const LAYERS = 4;
const LAYER_BYTES = 64;
export const PAGE_BYTES = LAYERS * LAYER_BYTES;
export const PAGES = 24;
export const HOST_PAGES = 16;
export const DISK_PAGES = 8;
const CONTENTS = 40;
export const CONTEXT: PartSize = { part: 'context', bytes: PAGE_BYTES, pieceBytes: PAGE_BYTES };
export const ONE: readonly PartSize[] = [CONTEXT];
export const BY_LAYER: readonly PartSize[] = [{ ...CONTEXT, pieceBytes: LAYER_BYTES }];
/** Pieces of 224, 224 and 208 bytes. */
export const STATE: PartSize = { part: 'state', bytes: 656, pieceBytes: 224 };
export const ALL: readonly PartSize[] = [
  CONTEXT,
  { part: 'window', bytes: 96, pieceBytes: 96 },
  STATE,
];

export const keyOf = (content: number) => `key ${content}`;
/** What content number `content` of a part is. */
export function bytesOf(content: number, { part, bytes }: PartSize = CONTEXT): Uint8Array {
  const kind = KV_PARTS.indexOf(part);
  return Uint8Array.from({ length: bytes }, (_, i) => hash32(content, kind, i));
}

/** Where benches are, and what is closed when they are not needed any more, last things first. */
export interface BenchPlace {
  readonly device: Device;
  readonly folder: string;
  readonly atEnd: { close(): Promise<unknown> }[];
}

export interface BenchOptions {
  readonly parts?: readonly PartSize[];
  readonly stagingPages?: number;
  readonly restorePages?: number;
  readonly crossingPages?: number;
  readonly share?: number;
}

/** A part's places on the device, all contents that it may have, and room to look at places. */
interface Pool extends PartSize {
  readonly kv: Slice;
  readonly contents: Slice;
  readonly seen: Slice;
}

/** A mover between a real device, real host memory and a real file. */
export class MoverBench {
  readonly traffic: Traffic;
  readonly mover: PageMover;
  readonly host: HostStore;
  readonly thread: StoreThread;
  readonly disk: DiskStore;
  readonly route: Route;
  readonly stream: Stream;
  readonly crossed: CrossingRecord[];
  readonly parts: readonly PartSize[];
  readonly #pools: readonly Pool[];

  private constructor(parts: {
    traffic: Traffic;
    mover: PageMover;
    host: HostStore;
    thread: StoreThread;
    disk: DiskStore;
    route: Route;
    stream: Stream;
    pools: readonly Pool[];
    crossed: CrossingRecord[];
  }) {
    this.traffic = parts.traffic;
    this.mover = parts.mover;
    this.host = parts.host;
    this.thread = parts.thread;
    this.disk = parts.disk;
    this.route = parts.route;
    this.stream = parts.stream;
    this.crossed = parts.crossed;
    this.parts = parts.pools;
    this.#pools = parts.pools;
  }

  static async open(
    { device, folder, atEnd }: BenchPlace,
    options: BenchOptions = {},
  ): Promise<MoverBench> {
    const { parts = ONE, stagingPages = 6, crossingPages = 3, share = 1 } = options;
    const { restorePages = stagingPages } = options;
    const profile = referenceProfile('b300-cc');
    const crossed: CrossingRecord[] = [];
    const onCrossing = (record: CrossingRecord) => crossed.push(record);
    const traffic = new Traffic({ device, profile, onCrossing });
    const route = await traffic.openRoute('kv');
    atEnd.push({ close: () => traffic.closeRoute(route) });
    const disk = { folder, model: 'a model' };
    const thread = await StoreThread.open({ disk });
    atEnd.push(thread);
    const slotsOf = (count: number) =>
      Object.fromEntries(parts.map(({ part }) => [part, count])) as Record<KvPart, number>;
    const host = new HostStore({
      device,
      memory: 'pageable',
      parts,
      slots: slotsOf(HOST_PAGES),
      blockBytes: 4 * PAGE_BYTES,
      availableBytes: () => Number.POSITIVE_INFINITY,
      touch: async (handle) => void (await thread.do({ kind: 'touch', host: handle })),
    });
    await host.grow();
    const meter = new LaneMeter(lanePriceOf(profile, 'pageable'));
    const pools = parts.map((size): Pool => {
      const placesOf = (count: number, label: string) =>
        slice(device.allocate(count * size.bytes, label));
      const contents = placesOf(CONTENTS, 'contents');
      return { ...size, kv: placesOf(PAGES, 'kv'), contents, seen: placesOf(PAGES, 'seen') };
    });
    for (const pool of pools) {
      const all = Array.from({ length: CONTENTS }, (_, i) => bytesOf(i, pool));
      await traffic.upload(Buffer.concat(all), pool.contents);
    }
    const stream = device.createStream('engine');
    const staging = (pages: number, label: string) =>
      slice(device.allocate(pages * PAGE_BYTES, label));
    const bounceBytes = crossingPages * PAGE_BYTES;
    const diskStore = new DiskStore({
      thread,
      parts,
      slots: slotsOf(DISK_PAGES),
      meter: new DiskMeter(() => device.clock.nowNs()),
    });
    const mover = new PageMover({
      device,
      parts: pools.map(({ kv, ...size }) => ({ ...size, pool: () => kv })),
      stream,
      route,
      host,
      disk: diskStore,
      bounces: [0, 1].map((i) => device.allocateHost(bounceBytes, 'pageable', `bounce ${i}`)),
      spillStaging: staging(stagingPages, 'spills'),
      restoreStaging: staging(restorePages, 'restores'),
      crossingBytes: crossingPages * PAGE_BYTES,
      meter,
      budget: new LaneBudget(share, device.clock.nowNs()),
    });
    // What is under way crosses on the route, which is closed next.
    atEnd.push({ close: () => mover.idle() });
    return new MoverBench({
      traffic,
      mover,
      host,
      thread,
      disk: diskStore,
      route,
      stream,
      pools,
      crossed,
    });
  }

  #poolOf(part: KvPart): Pool {
    return this.#pools.find((pool) => pool.part === part)!;
  }

  /** A step of the engine computes this content into the place. */
  write(page: number, content: number, part: KvPart = 'context'): void {
    const { kv, contents, bytes } = this.#poolOf(part);
    this.stream.launch('scatter-pages', {
      kv,
      pageBytes: bytes,
      fromBytes: 0,
      partBytes: bytes,
      pages: [page],
      input: slice(contents.buffer, content * bytes, bytes),
    });
  }

  /** The same of every part. */
  writeAll(page: number, content: number): void {
    for (const { part } of this.parts) this.write(page, content, part);
  }

  /** What the engine's next launch would find in all places of a part. */
  async pages(part: KvPart = 'context'): Promise<Uint8Array[]> {
    const { kv, seen, bytes } = this.#poolOf(part);
    this.stream.launch('copy', { input: kv, out: seen, bytes: seen.bytes });
    const all = await this.traffic.download(seen, this.stream, 'probe');
    return Array.from({ length: PAGES }, (_, page) =>
      all.subarray(page * bytes, (page + 1) * bytes),
    );
  }

  /** Every part of a page, to or from slots of this number. */
  moves(page: number, slot: number, content: number): PageMove[] {
    return this.parts.map(({ part }) => ({ part, slot, page, key: keyOf(content) }));
  }

  /** Waits for as much as is under way, and takes what came of it. */
  async end(): Promise<readonly Settled[]> {
    await this.mover.idle();
    return this.mover.settled();
  }
}

export const spillAll = (bench: MoverBench, moves: readonly PageMove[], tenant = 'a') => {
  const taken = bench.mover.spill({ tenant, moves });
  bench.mover.queueMoves();
  return taken;
};

export const restoreAll = (
  bench: MoverBench,
  moves: readonly PageMove[],
  from: 'host' | 'disk' = 'host',
  tenant = 'a',
) => {
  const id = bench.mover.restore({ tenant, moves, from });
  bench.mover.queueMoves();
  return id;
};
