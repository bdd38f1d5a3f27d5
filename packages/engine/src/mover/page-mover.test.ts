import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CrossingRecord, referenceProfile } from '@bridgekeeper/bridge';
import {
  type Device,
  DeviceError,
  hash32,
  openCpuDevice,
  type Slice,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { KV_PARTS, type PageMove, type Settled } from '../kv/tiers/movement.ts';
import type { Route } from '../traffic/route.ts';
import { Traffic } from '../traffic/traffic.ts';
import { DiskMeter } from './disk-meter.ts';
import { DiskStore } from './disk-store.ts';
import { HostStore } from './host-store.ts';
import { LaneBudget, LaneMeter, lanePriceOf } from './lane-budget.ts';
import { PageMover, partBytesOf } from './page-mover.ts';
import { StoreThread } from './store-thread.ts';

const LAYERS = 4;
const LAYER_BYTES = 64;
const PAGE_BYTES = LAYERS * LAYER_BYTES;
const PAGES = 24;
const HOST_PAGES = 16;
const DISK_PAGES = 8;
const CONTENTS = 40;
const ONE: readonly { readonly layers: readonly number[]; readonly windowTokens?: number }[] = [
  { layers: [0, 1, 2, 3], windowTokens: 0 },
];
/** As gpt-oss has them: windows in every other layer. */
const TWO: readonly { readonly layers: readonly number[]; readonly windowTokens?: number }[] = [
  { layers: [1, 3], windowTokens: 0 },
  { layers: [0, 2], windowTokens: 128 },
];

const keyOf = (content: number) => `key ${content}`;
/** What page content number `content` is. */
function bytesOf(content: number): Uint8Array {
  return Uint8Array.from({ length: PAGE_BYTES }, (_, i) => hash32(content, 0, i));
}

let device: Device;
beforeAll(async () => {
  device = await openCpuDevice({ threads: 1 });
});
afterAll(() => device.close());

let folder: string;
const open: { close(): Promise<unknown> }[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-mover-'));
});
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
  await rm(folder, { recursive: true });
});

interface BenchOptions {
  readonly groups?: readonly {
    readonly layers: readonly number[];
    readonly windowTokens?: number;
  }[];
  readonly stagingPages?: number;
  readonly crossingPages?: number;
  readonly share?: number;
}

/** A mover between a real device, real host memory and a real file. */
class Bench {
  readonly traffic: Traffic;
  readonly mover: PageMover;
  readonly host: HostStore;
  readonly thread: StoreThread;
  readonly disk: DiskStore;
  readonly route: Route;
  readonly stream: Stream;
  readonly crossed: CrossingRecord[];
  readonly groups: readonly {
    readonly layers: readonly number[];
    readonly windowTokens?: number;
  }[];
  readonly #kv: Slice;
  readonly #contents: Slice;
  readonly #seen: Slice;

  private constructor(parts: {
    traffic: Traffic;
    mover: PageMover;
    host: HostStore;
    thread: StoreThread;
    disk: DiskStore;
    route: Route;
    stream: Stream;
    kv: Slice;
    contents: Slice;
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
    this.groups = parts.mover.groups;
    this.#kv = parts.kv;
    this.#contents = parts.contents;
    this.#seen = slice(device.allocate(PAGES * PAGE_BYTES, 'seen'));
  }

  static async open(options: BenchOptions = {}): Promise<Bench> {
    const { groups = ONE, stagingPages = 6, crossingPages = 3, share = 1 } = options;
    const profile = referenceProfile('b300-cc');
    const crossed: CrossingRecord[] = [];
    const onCrossing = (record: CrossingRecord) => crossed.push(record);
    const traffic = new Traffic({ device, profile, onCrossing });
    const route = await traffic.openRoute('kv');
    open.push({ close: () => traffic.closeRoute(route) });
    const disk = { folder, model: 'a model' };
    const thread = await StoreThread.open({ disk });
    open.push(thread);
    const geometry = { pageBytes: PAGE_BYTES, layers: LAYERS, groups };
    const partBytes = partBytesOf(geometry);
    const host = new HostStore({
      device,
      memory: 'pageable',
      partBytes,
      pages: HOST_PAGES,
      blockBytes: 4 * PAGE_BYTES,
      availableBytes: () => Number.POSITIVE_INFINITY,
      touch: async (handle) => void (await thread.do({ kind: 'touch', host: handle })),
    });
    await host.grow();
    const meter = new LaneMeter(lanePriceOf(profile, 'pageable'));
    const kv = slice(device.allocate(PAGES * PAGE_BYTES, 'kv'));
    const contents = slice(device.allocate(CONTENTS * PAGE_BYTES, 'contents'));
    const all = Array.from({ length: CONTENTS }, (_, i) => bytesOf(i));
    await traffic.upload(Buffer.concat(all), contents);
    const stream = device.createStream('engine');
    const staging = (label: string) => slice(device.allocate(stagingPages * PAGE_BYTES, label));
    const bounceBytes = crossingPages * PAGE_BYTES;
    const diskStore = new DiskStore({
      thread,
      partBytes,
      pages: DISK_PAGES,
      meter: new DiskMeter(() => device.clock.nowNs()),
    });
    const mover = new PageMover({
      device,
      geometry,
      kv: () => kv,
      stream,
      route,
      host,
      disk: diskStore,
      bounces: [0, 1].map((i) => device.allocateHost(bounceBytes, 'pageable', `bounce ${i}`)),
      spillStaging: staging('spills'),
      restoreStaging: staging('restores'),
      crossingBytes: crossingPages * PAGE_BYTES,
      meter,
      budget: new LaneBudget(share, device.clock.nowNs()),
    });
    // What is under way crosses on the route, which is closed next.
    open.push({ close: () => mover.idle() });
    return new Bench({
      traffic,
      mover,
      host,
      thread,
      disk: diskStore,
      route,
      stream,
      kv,
      contents,
      crossed,
    });
  }

  /** A step of the engine computes this content into the page. */
  write(page: number, content: number): void {
    this.stream.launch('scatter-pages', {
      kv: this.#kv,
      pageBytes: PAGE_BYTES,
      fromBytes: 0,
      partBytes: PAGE_BYTES,
      pages: [page],
      input: slice(this.#contents.buffer, content * PAGE_BYTES, PAGE_BYTES),
    });
  }

  /** What the engine's next launch would find in all pages. */
  async pages(): Promise<Uint8Array[]> {
    const { buffer } = this.#seen;
    this.stream.launch('copy', { input: this.#kv, out: this.#seen, bytes: buffer.bytes });
    const all = await this.traffic.download(this.#seen, this.stream, 'probe');
    return Array.from({ length: PAGES }, (_, page) =>
      all.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES),
    );
  }

  /** Every group's part of a page, to or from slots of this number. */
  moves(page: number, slot: number, content: number): PageMove[] {
    return this.groups.map((_, group) => ({
      part: KV_PARTS[group]!,
      slot,
      page,
      key: keyOf(content),
    }));
  }

  /** Waits for as much as is under way, and takes what came of it. */
  async end(): Promise<readonly Settled[]> {
    await this.mover.idle();
    return this.mover.settled();
  }
}

const spillAll = (bench: Bench, moves: readonly PageMove[], tenant = 'a') => {
  const taken = bench.mover.spill({ tenant, moves });
  bench.mover.queueMoves();
  return taken;
};

const restoreAll = (
  bench: Bench,
  moves: readonly PageMove[],
  from: 'host' | 'disk' = 'host',
  tenant = 'a',
) => {
  const id = bench.mover.restore({ tenant, moves, from });
  bench.mover.queueMoves();
  return id;
};

describe.each([
  ['one group', ONE],
  ['groups whose layers lie apart', TWO],
] as const)('pages of %s', (_, groups) => {
  test('go to host memory and come back to other pages, though reused at once', async () => {
    const bench = await Bench.open({ groups });
    for (let page = 0; page < 5; page++) bench.write(page, page);
    const spilled = [0, 1, 2, 3, 4].flatMap((page) => bench.moves(page, page + 3, page));
    // By group, as neighbours of one prefix come.
    spilled.sort((a, b) => KV_PARTS.indexOf(a.part) - KV_PARTS.indexOf(b.part));
    expect(spillAll(bench, spilled)).toBe(spilled.length);
    for (let page = 0; page < 5; page++) bench.write(page, 30);
    const out = await bench.end();
    expect(out.every(({ kind }) => kind === 'spilled')).toBe(true);
    const moves = [0, 1, 2, 3, 4].flatMap((i) => bench.moves(10 + i, i + 3, i));
    moves.sort((a, b) => KV_PARTS.indexOf(a.part) - KV_PARTS.indexOf(b.part));
    const id = restoreAll(bench, moves);
    const bytes = 5 * PAGE_BYTES;
    expect(await bench.end()).toMatchObject([{ kind: 'restored', id, isComplete: true, bytes }]);
    const pages = await bench.pages();
    for (let i = 0; i < 5; i++) {
      expect(pages[i]).toEqual(bytesOf(30));
      expect(pages[10 + i]).toEqual(bytesOf(i));
    }
  });

  test('go on to disk and come back', async () => {
    const bench = await Bench.open({ groups });
    bench.write(1, 7);
    spillAll(bench, bench.moves(1, 2, 7));
    const demotions = groups.map((_, group) => ({
      part: KV_PARTS[group]!,
      hostSlot: 2,
      diskSlot: 5,
      key: keyOf(7),
    }));
    bench.mover.demote('a', demotions);
    // The slot is another's at once.
    bench.write(1, 8);
    spillAll(bench, bench.moves(1, 2, 8));
    restoreAll(bench, bench.moves(20, 5, 7), 'disk');
    restoreAll(bench, bench.moves(21, 2, 8), 'host');
    const settled = await bench.end();
    expect(settled.filter(({ kind }) => kind === 'restored')).toHaveLength(2);
    const pages = await bench.pages();
    expect([pages[20], pages[21]]).toEqual([bytesOf(7), bytesOf(8)]);
    expect(await readdir(folder)).toEqual([]);
  });
});

test('what comes from disk is due later, by what the disk takes for all before it', async () => {
  const bench = await Bench.open({ stagingPages: 12 });
  for (const page of [0, 1, 2, 3]) {
    bench.write(page, page);
    spillAll(bench, bench.moves(page, page, page));
  }
  await bench.end();
  const demotions = [0, 1].map((slot) => {
    return { part: 'context' as const, hostSlot: slot, diskSlot: slot, key: keyOf(slot) };
  });
  bench.mover.demote('a', demotions);
  await bench.end();
  const diskNs = (pages: number) => bench.disk.meter.price('read', pages * PAGE_BYTES);
  const ask = (page: number, from: 'host' | 'disk') =>
    bench.mover.restore({ tenant: 'a', moves: bench.moves(10 + page, page, page), from });
  const [first, second, last] = [ask(0, 'disk'), ask(1, 'disk'), ask(2, 'host')];
  const laneNs = bench.mover.queue().restoreNs / 3;
  const due = [first, second, last].map((id) => bench.mover.dueNs(id));
  const wanted = [laneNs + diskNs(1), 2 * laneNs + diskNs(2), 3 * laneNs];
  for (const [index, ns] of wanted.entries()) expect(due[index]! / ns).toBeCloseTo(1, 1);
  bench.mover.queueMoves();
  await bench.end();
  expect(bench.mover.queue()).toEqual({ spillNs: 0, restoreNs: 0, diskNs: 0 });
});

test('pages that lie apart cross as one where their slots are neighbours', async () => {
  const bench = await Bench.open({ stagingPages: 12, crossingPages: 4 });
  bench.crossed.length = 0;
  const pages = [9, 2, 17, 4];
  for (const page of pages) bench.write(page, page);
  // In whatever order they come, and however many calls it took.
  const moves = pages.flatMap((page, i) => bench.moves(page, 7 - i, page));
  bench.mover.spill({ tenant: 'a', moves: moves.slice(0, 3) });
  spillAll(bench, moves.slice(3));
  await bench.end();
  restoreAll(bench, moves);
  await bench.end();
  const kinds = bench.crossed.map(({ purpose, bytes }) => [purpose, bytes]);
  expect(kinds).toEqual([
    ['kv-spill', 4 * PAGE_BYTES],
    ['kv-restore', 4 * PAGE_BYTES],
  ]);
});

test('uses of two slots that wait for each other come to their ends', async () => {
  const bench = await Bench.open();
  for (const page of [0, 1, 2]) bench.write(page, page);
  spillAll(bench, bench.moves(1, 5, 1));
  // Slot 4 is written, both are read, and slot 5 is another's, before anything is queued.
  bench.mover.spill({ tenant: 'a', moves: bench.moves(0, 4, 0) });
  const both = [...bench.moves(10, 4, 0), ...bench.moves(11, 5, 1)];
  bench.mover.restore({ tenant: 'a', moves: both, from: 'host' });
  spillAll(bench, bench.moves(2, 5, 2));
  restoreAll(bench, bench.moves(12, 5, 2));
  await bench.end();
  const pages = await bench.pages();
  expect([pages[10], pages[11], pages[12]]).toEqual([bytesOf(0), bytesOf(1), bytesOf(2)]);
});

test('takes no more spills than staging holds, and again when it has room', async () => {
  const bench = await Bench.open({ stagingPages: 3 });
  const moves = [0, 1, 2, 3, 4].flatMap((page) => bench.moves(page, page, page));
  expect(spillAll(bench, moves)).toBe(3);
  await bench.end();
  expect(spillAll(bench, moves.slice(3))).toBe(2);
});

test('spills keep to their share of the lane', () => {
  const budget = new LaneBudget(0.25, 0);
  let spentNs = 0;
  for (let nowNs = 0; nowNs <= 100e9; nowNs += 1e6) {
    while (budget.has(7e6, nowNs)) {
      budget.spend(7e6);
      spentNs += 7e6;
    }
  }
  // A second was saved at the start.
  expect(Math.abs(spentNs - 26e9)).toBeLessThan(7e6);
});

test('a price follows what crossings take', () => {
  const expected = lanePriceOf(null, 'pinned');
  const meter = new LaneMeter(expected);
  expect(meter.price('h2d', 1e6)).toBe(expected('h2d', 1e6));
  for (let i = 0; i < 80; i++) meter.observe('h2d', 1e6, 3 * expected('h2d', 1e6));
  expect(meter.price('h2d', 2e6)).toBeCloseTo(3 * expected('h2d', 2e6), -2);
  expect(meter.price('d2h', 2e6)).toBe(expected('d2h', 2e6));
  // One that was held up by something else is no reason to give the lane up.
  meter.observe('d2h', 1e6, 1e12);
  expect(meter.price('d2h', 1e6)).toBeLessThan(3 * expected('d2h', 1e6));
});

test('a spill waits for the budget and is taken later', async () => {
  const bench = await Bench.open({ share: 0.5 });
  const has = vi
    .spyOn(LaneBudget.prototype, 'has')
    .mockReturnValueOnce(true)
    .mockReturnValue(false);
  const moves = [0, 1].flatMap((page) => bench.moves(page, page, page));
  expect(spillAll(bench, moves)).toBe(1);
  has.mockRestore();
  expect(spillAll(bench, moves.slice(1))).toBe(1);
});

describe('when it is cancelled', () => {
  test('a restore writes no page, and its pages are the next owner’s', async () => {
    const bench = await Bench.open();
    bench.write(0, 1);
    spillAll(bench, bench.moves(0, 0, 1));
    await bench.end();
    for (const when of ['before it is queued', 'while it crosses', 'when it has come']) {
      bench.write(5, 2);
      const id = bench.mover.restore({ tenant: 'a', moves: bench.moves(5, 0, 1), from: 'host' });
      if (when !== 'before it is queued') bench.mover.queueMoves();
      if (when === 'when it has come') await bench.mover.idle();
      bench.mover.cancel(id);
      bench.write(5, 3);
      bench.mover.queueMoves();
      expect([when, await bench.end()]).toEqual([when, []]);
      expect((await bench.pages())[5]).toEqual(bytesOf(3));
    }
  });

  test('gives back what it held: as many can follow as there were before', async () => {
    const bench = await Bench.open({ stagingPages: 3 });
    for (let page = 0; page < 6; page++) bench.write(page, page);
    for (const half of [0, 3]) {
      const three = [0, 1, 2].flatMap((i) => bench.moves(half + i, half + i, half + i));
      expect(spillAll(bench, three)).toBe(3);
      await bench.end();
    }
    const moves = [0, 1, 2, 3, 4, 5].flatMap((i) => bench.moves(10 + i, i, i));
    for (let i = 0; i < 10; i++) bench.mover.cancel(restoreAll(bench, moves));
    restoreAll(bench, moves);
    expect(await bench.end()).toMatchObject([{ kind: 'restored', bytes: 6 * PAGE_BYTES }]);
    expect(bench.mover.queue()).toEqual({ spillNs: 0, restoreNs: 0, diskNs: 0 });
  });
});

describe('faults', () => {
  test('host memory that is refused loses its slots, and the others serve on', async () => {
    const device = await openCpuDevice({ threads: 1 });
    open.push(device);
    let blocks = 0;
    vi.spyOn(device, 'allocateHost').mockImplementation((bytes, memory, label) => {
      blocks += 1;
      if (blocks > 2) throw new DeviceError('out-of-memory', 'no more host memory');
      const shared = new SharedArrayBuffer(bytes);
      return { id: blocks, memory, bytes: new Uint8Array(shared), label };
    });
    vi.spyOn(device, 'hostHandle').mockReturnValue({
      kind: 'shared',
      memory: new SharedArrayBuffer(16),
      bytes: 16,
    });
    const store = new HostStore({
      device,
      memory: 'pinned',
      partBytes: [96, 32],
      pages: 10,
      blockBytes: 3 * 128,
      availableBytes: () => Number.POSITIVE_INFINITY,
      touch: async () => undefined,
    });
    expect(store.place(0, 0)).toBe('later');
    await store.grow();
    expect(store.readyBytes).toBe(2 * 3 * 128);
    expect(store.place(1, 5)).toMatchObject({ offsetBytes: 3 * 96 + 2 * 32 });
    expect(store.place(0, 6)).toBe('never');
  });

  test('host memory that the system does not have is not taken', async () => {
    let availableBytes = 2 ** 30 + 2 * 4 * PAGE_BYTES;
    const store = new HostStore({
      device,
      memory: 'pageable',
      partBytes: [PAGE_BYTES],
      pages: 100,
      blockBytes: 4 * PAGE_BYTES,
      availableBytes: () => availableBytes,
      touch: async ({ bytes }) => {
        availableBytes -= bytes;
      },
    });
    await store.grow();
    expect(store.readyBytes).toBe(2 * 4 * PAGE_BYTES);
    expect(store.place(0, 8)).toBe('never');
    store.close();
  });

  test('a spill to a slot that the host has no memory for is lost, in mid-span', async () => {
    const bench = await Bench.open();
    bench.write(0, 1);
    const place = bench.host.place.bind(bench.host);
    vi.spyOn(bench.host, 'place').mockImplementation((group, slot) =>
      slot === 1 ? 'never' : place(group, slot),
    );
    const moves = [0, 1, 2].flatMap((slot) => bench.moves(0, slot, 1));
    expect(spillAll(bench, moves)).toBe(3);
    const lost = [{ part: 'context' as const, slot: 1 }];
    expect(await bench.end()).toContainEqual({
      kind: 'slots-lost',
      store: 'host',
      failure: 'no-memory',
      lost,
    });
    restoreAll(bench, bench.moves(7, 2, 1));
    await bench.end();
    expect((await bench.pages())[7]).toEqual(bytesOf(1));
  });

  test('a lane that is lost in the middle fails what is under way and hangs nothing', async () => {
    const bench = await Bench.open();
    bench.write(0, 1);
    spillAll(bench, bench.moves(0, 0, 1));
    await bench.end();
    const id = restoreAll(bench, bench.moves(3, 0, 1));
    await bench.route.lanes[0]!.close();
    expect(await bench.end()).toMatchObject([{ id, failure: 'lane-lost', lost: [] }]);
    const later = restoreAll(bench, bench.moves(3, 0, 1));
    expect(await bench.end()).toMatchObject([{ id: later, failure: 'lane-lost' }]);
    expect(spillAll(bench, bench.moves(0, 5, 1))).toBe(0);
    // The engine goes on.
    bench.write(3, 4);
    expect((await bench.pages())[3]).toEqual(bytesOf(4));
  });

  test('a spill whose lane is lost loses its slots', async () => {
    const bench = await Bench.open();
    bench.write(0, 1);
    await bench.route.lanes[0]!.close();
    spillAll(bench, bench.moves(0, 5, 1));
    const lost = [{ part: 'context' as const, slot: 5 }];
    expect(await bench.end()).toEqual([
      { kind: 'slots-lost', store: 'host', failure: 'lane-lost', lost },
    ]);
  });

  test('what could not be written is not read, whatever was there before', async () => {
    const bench = await Bench.open();
    bench.write(0, 1);
    spillAll(bench, bench.moves(0, 5, 1));
    await bench.end();
    bench.write(0, 2);
    bench.write(9, 3);
    const cross = vi.spyOn(bench.route, 'cross').mockRejectedValueOnce(new Error('lost'));
    spillAll(bench, bench.moves(0, 5, 2));
    // Asked for while nobody knows yet.
    const id = restoreAll(bench, bench.moves(9, 5, 2));
    bench.mover.demote('a', [
      { part: 'context' as const, hostSlot: 5, diskSlot: 0, key: keyOf(2) },
    ]);
    const part = { part: 'context' as const, slot: 5 };
    expect(await bench.end()).toEqual([
      { kind: 'slots-lost', store: 'host', failure: 'lane-lost', lost: [part] },
      { kind: 'restore-failed', id, failure: 'lane-lost', lost: [part] },
      {
        kind: 'slots-lost',
        store: 'disk',
        failure: 'lane-lost',
        lost: [{ part: 'context' as const, slot: 0 }],
      },
    ]);
    expect(cross).toHaveBeenCalledTimes(1);
    expect((await bench.pages())[9]).toEqual(bytesOf(3));
  });

  test('what disk has not kept is refused, and only that', async () => {
    const bench = await Bench.open();
    bench.write(0, 1);
    bench.write(1, 2);
    spillAll(bench, [...bench.moves(0, 0, 1), ...bench.moves(1, 1, 2)]);
    const demotion = (hostSlot: number, diskSlot: number, content: number) => ({
      part: 'context' as const,
      hostSlot,
      diskSlot,
      key: keyOf(content),
    });
    bench.mover.demote('a', [demotion(0, 0, 1), demotion(1, 1, 2)]);
    await bench.end();
    // Another tenant's, another content's, another slot's, and one that was dropped.
    const [right] = bench.moves(9, 0, 1);
    const asked = [
      { tenant: 'b', move: right! },
      { tenant: 'a', move: { ...right!, key: keyOf(2) } },
      { tenant: 'a', move: { ...right!, slot: 1 } },
    ];
    bench.write(9, 3);
    for (const { tenant, move } of asked) {
      const id = restoreAll(bench, [move], 'disk', tenant);
      const lost = [{ part: 'context' as const, slot: move.slot }];
      const failed = { kind: 'restore-failed', id, failure: 'not-authentic', lost };
      expect(await bench.end()).toEqual([failed]);
    }
    expect((await bench.pages())[9]).toEqual(bytesOf(3));
    bench.mover.drop('disk', [{ part: 'context' as const, slot: 0 }]);
    restoreAll(bench, [right!], 'disk');
    expect(await bench.end()).toMatchObject([{ failure: 'not-authentic' }]);
    restoreAll(bench, bench.moves(9, 1, 2), 'disk');
    expect(await bench.end()).toMatchObject([{ kind: 'restored' }]);
    expect((await bench.pages())[9]).toEqual(bytesOf(2));
    // A device that sleeps, or a key that goes, takes all of it.
    bench.mover.dropAll();
    restoreAll(bench, bench.moves(9, 1, 2), 'disk');
    expect(await bench.end()).toMatchObject([{ failure: 'not-authentic' }]);
  });

  test('a storage thread that has ended fails disk, and host memory serves on', async () => {
    const bench = await Bench.open();
    bench.write(0, 1);
    spillAll(bench, bench.moves(0, 0, 1));
    await bench.end();
    await bench.thread.close();
    bench.mover.demote('a', [
      { part: 'context' as const, hostSlot: 0, diskSlot: 0, key: keyOf(1) },
    ]);
    expect(await bench.end()).toMatchObject([{ kind: 'slots-lost', failure: 'disk-failed' }]);
    const id = restoreAll(bench, bench.moves(3, 0, 1), 'disk');
    expect(await bench.end()).toMatchObject([{ id, failure: 'disk-failed' }]);
    restoreAll(bench, bench.moves(3, 0, 1));
    await bench.end();
    expect((await bench.pages())[3]).toEqual(bytesOf(1));
  });
});

/** What may be asked next. */
const operation = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), page: fc.nat(PAGES - 1), content: fc.nat(29) }),
  fc.record({
    kind: fc.constant('spill' as const),
    pages: fc.uniqueArray(fc.nat(PAGES - 1), { minLength: 1, maxLength: 5 }),
    slot: fc.nat(HOST_PAGES - 5),
  }),
  fc.record({
    kind: fc.constant('restore' as const),
    from: fc.constantFrom('host' as const, 'disk' as const),
    pages: fc.uniqueArray(fc.nat(PAGES - 1), { minLength: 1, maxLength: 5 }),
    slot: fc.nat(HOST_PAGES - 5),
  }),
  fc.record({
    kind: fc.constant('demote' as const),
    hostSlot: fc.nat(HOST_PAGES - 1),
    diskSlot: fc.nat(DISK_PAGES - 1),
  }),
  fc.record({ kind: fc.constant('cancel' as const), which: fc.nat(3) }),
  fc.record({ kind: fc.constantFrom('queue' as const, 'wait' as const) }),
);

test('every page holds what it should, whatever moves, in any order', async () => {
  const before = device.counters();
  const small = { stagingPages: 5, crossingPages: 2 };
  const benches = [
    await Bench.open({ ...small, groups: ONE }),
    await Bench.open({ ...small, groups: TWO }),
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...benches),
      fc.array(operation, { minLength: 10, maxLength: 60 }),
      async (bench, operations) => {
        const { mover, groups } = bench;
        /** By page and slot; absent: undefined content. */
        const pages = new Map<number, number>();
        const host = new Map<number, number>();
        const disk = new Map<number, number>();
        const restores = new Map<number, { page: number; content: number }[]>();
        const isRestoring = (page: number) =>
          [...restores.values()].some((moves) => moves.some((move) => move.page === page));
        const take = () => {
          for (const each of mover.settled()) {
            if (each.kind === 'spilled') continue;
            expect(each).toMatchObject({ kind: 'restored', isComplete: true });
            if (each.kind !== 'restored') continue;
            for (const { page, content } of restores.get(each.id)!) pages.set(page, content);
            restores.delete(each.id);
          }
        };
        for (const each of operations) {
          if (each.kind === 'write') {
            if (isRestoring(each.page)) continue;
            bench.write(each.page, each.content);
            pages.set(each.page, each.content);
          } else if (each.kind === 'spill') {
            const known = each.pages.filter((page) => pages.has(page) && !isRestoring(page));
            for (const [i, page] of known.entries()) {
              const content = pages.get(page)!;
              const moves = bench.moves(page, each.slot + i, content);
              const taken = mover.spill({ tenant: 'a', moves });
              // Half a page is none.
              if (taken === moves.length) host.set(each.slot + i, content);
              else if (taken > 0) host.delete(each.slot + i);
            }
            mover.queueMoves();
          } else if (each.kind === 'restore') {
            const slots = each.from === 'host' ? host : disk;
            const wanted = each.pages
              .map((page, i) => ({ page, slot: each.slot + i }))
              .filter(({ page, slot }) => slots.has(slot) && !isRestoring(page));
            if (wanted.length === 0) continue;
            const moves = wanted.flatMap(({ page, slot }) =>
              bench.moves(page, slot, slots.get(slot)!),
            );
            const id = mover.restore({ tenant: 'a', moves, from: each.from });
            const into = wanted.map(({ page, slot }) => ({ page, content: slots.get(slot)! }));
            for (const { page } of into) pages.delete(page);
            restores.set(id, into);
            mover.queueMoves();
          } else if (each.kind === 'demote') {
            const content = host.get(each.hostSlot);
            if (content === undefined) continue;
            const { hostSlot, diskSlot } = each;
            const key = keyOf(content);
            mover.demote(
              'a',
              groups.map((_, group) => ({ part: KV_PARTS[group]!, hostSlot, diskSlot, key })),
            );
            disk.set(diskSlot, content);
          } else if (each.kind === 'cancel') {
            const id = [...restores.keys()][each.which];
            if (id === undefined) continue;
            mover.cancel(id);
            restores.delete(id);
          } else {
            if (each.kind === 'wait') await mover.idle();
            take();
            mover.queueMoves();
          }
        }
        await mover.idle();
        take();
        expect(restores.size).toBe(0);
        expect(mover.queue().restoreNs).toBeCloseTo(0, 3);
        const seen = await bench.pages();
        for (const [page, content] of pages) expect(seen[page]).toEqual(bytesOf(content));
      },
    ),
    { numRuns: 60, seed: 7 },
  );
  const after = device.counters();
  const all = benches.flatMap(({ crossed }) => crossed);
  const sum = (direction: string) =>
    all.reduce((bytes, each) => bytes + (each.direction === direction ? each.bytes : 0), 0);
  expect(all.length).toBe(after.copies - before.copies);
  expect([sum('h2d'), sum('d2h')]).toEqual([
    after.h2dBytes - before.h2dBytes,
    after.d2hBytes - before.d2hBytes,
  ]);
}, 60_000);
