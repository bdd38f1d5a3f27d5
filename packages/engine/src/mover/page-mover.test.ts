import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, hash32, openCpuDevice } from '@bridgekeeper/device';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type Demotion,
  KV_PARTS,
  type KvPart,
  type PageMove,
  type StoreName,
} from '../kv/tiers/movement.ts';
import { LaneBudget } from './lane-budget.ts';
import {
  ALL,
  type BenchOptions,
  BY_LAYER,
  bytesOf,
  DISK_PAGES,
  HOST_PAGES,
  keyOf,
  MoverBench,
  ONE,
  PAGE_BYTES,
  PAGES,
  restoreAll,
  STATE,
  spillAll,
} from './testing/mover-bench.ts';

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

const opened = (options?: BenchOptions) =>
  MoverBench.open({ device, folder, atEnd: open }, options);

/** Expects a content of every part in these places. */
async function expectAll(
  bench: MoverBench,
  expected: readonly (readonly [page: number, content: number])[],
): Promise<void> {
  for (const size of bench.parts) {
    const pages = await bench.pages(size.part);
    for (const [page, content] of expected) expect(pages[page]).toEqual(bytesOf(content, size));
  }
}

describe.each([
  ['contexts alone', ONE],
  ['contexts in pieces', BY_LAYER],
  ['contexts, windows and states', ALL],
] as const)('%s', (_, parts) => {
  test('go to host memory and come back to other pages, though reused at once', async () => {
    const bench = await opened({ parts, stagingPages: 24 });
    for (let page = 0; page < 5; page++) bench.writeAll(page, page);
    const spilled = [0, 1, 2, 3, 4].flatMap((page) => bench.moves(page, page + 3, page));
    // By part, as neighbours of one prefix come.
    spilled.sort((a, b) => KV_PARTS.indexOf(a.part) - KV_PARTS.indexOf(b.part));
    expect(spillAll(bench, spilled)).toBe(spilled.length);
    for (let page = 0; page < 5; page++) bench.writeAll(page, 30);
    const out = await bench.end();
    expect(out.every(({ kind }) => kind === 'spilled')).toBe(true);
    const moves = [0, 1, 2, 3, 4].flatMap((i) => bench.moves(10 + i, i + 3, i));
    const id = restoreAll(bench, moves);
    const bytes = 5 * parts.reduce((sum, part) => sum + part.bytes, 0);
    expect(await bench.end()).toMatchObject([{ kind: 'restored', id, isComplete: true, bytes }]);
    for (let i = 0; i < 5; i++) {
      await expectAll(bench, [
        [i, 30],
        [10 + i, i],
      ]);
    }
  });

  test('go on to disk and come back', async () => {
    const bench = await opened({ parts, stagingPages: 12 });
    bench.writeAll(1, 7);
    spillAll(bench, bench.moves(1, 2, 7));
    const demotions = parts.map(({ part }) => ({
      part,
      hostSlot: 2,
      diskSlot: 5,
      key: keyOf(7),
    }));
    bench.mover.demote('a', demotions);
    // The slot is another's at once.
    bench.writeAll(1, 8);
    spillAll(bench, bench.moves(1, 2, 8));
    restoreAll(bench, bench.moves(20, 5, 7), 'disk');
    restoreAll(bench, bench.moves(21, 2, 8), 'host');
    const settled = await bench.end();
    expect(settled.filter(({ kind }) => kind === 'restored')).toHaveLength(2);
    await expectAll(bench, [
      [20, 7],
      [21, 8],
    ]);
    expect(await readdir(folder)).toEqual([]);
  });
});

test('what comes from disk is due later, by what the disk takes for all before it', async () => {
  const bench = await opened({ stagingPages: 12 });
  for (const page of [0, 1, 2, 3]) {
    bench.write(page, page);
    spillAll(bench, bench.moves(page, page, page));
  }
  await bench.end();
  const demotions = [0, 1].map((slot) => {
    return { part: 'context', hostSlot: slot, diskSlot: slot, key: keyOf(slot) } as const;
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
  const bench = await opened({ stagingPages: 12, crossingPages: 4 });
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
  const bench = await opened();
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
  const bench = await opened({ stagingPages: 3 });
  const moves = [0, 1, 2, 3, 4].flatMap((page) => bench.moves(page, page, page));
  expect(spillAll(bench, moves)).toBe(3);
  await bench.end();
  expect(spillAll(bench, moves.slice(3))).toBe(2);
});

test('takes no spill that fits neither behind what staging holds nor before it', async () => {
  const bench = await opened({ parts: ALL, stagingPages: 5, crossingPages: 1 });
  bench.writeAll(0, 1);
  const cross = bench.route.cross.bind(bench.route);
  let letGo = () => {};
  const isLetGo = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  let crossings = 0;
  vi.spyOn(bench.route, 'cross').mockImplementation(async (request) => {
    crossings += 1;
    if (crossings > 1) await isLetGo;
    return cross(request);
  });
  const [context, window, state] = bench.moves(0, 0, 1);
  // Of 1280 bytes the first 96 are free again, and 656 behind them are not.
  spillAll(bench, [window!]);
  spillAll(bench, [state!]);
  await bench.mover.whenSettled();
  expect(spillAll(bench, [context!, { ...window!, slot: 1 }])).toBe(2);
  // Of these bytes 272 are free, 96 before what is there and 176 behind it.
  expect(spillAll(bench, [{ ...context!, slot: 1 }])).toBe(0);
  letGo();
  await bench.end();
  expect(spillAll(bench, [{ ...context!, slot: 1 }])).toBe(1);
});

test('a spill waits for the budget and is taken later', async () => {
  const bench = await opened({ share: 0.5 });
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
  test.each([
    ['contexts', ONE],
    ['all parts', ALL],
  ])('a restore of %s writes nothing, and its places are the next owner’s', async (_, parts) => {
    const bench = await opened({ parts });
    bench.writeAll(0, 1);
    spillAll(bench, bench.moves(0, 0, 1));
    await bench.end();
    for (const when of ['before it is queued', 'while it crosses', 'when it has come']) {
      bench.writeAll(5, 2);
      const id = bench.mover.restore({ tenant: 'a', moves: bench.moves(5, 0, 1), from: 'host' });
      if (when !== 'before it is queued') bench.mover.queueMoves();
      if (when === 'when it has come') await bench.mover.idle();
      bench.mover.cancel(id);
      bench.writeAll(5, 3);
      bench.mover.queueMoves();
      expect([when, await bench.end()]).toEqual([when, []]);
      await expectAll(bench, [[5, 3]]);
    }
  });

  test('gives back what it held: as many can follow as there were before', async () => {
    const bench = await opened({ stagingPages: 3 });
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
  test('a spill to a slot that the host has no memory for is lost, in mid-span', async () => {
    const bench = await opened();
    bench.write(0, 1);
    const place = bench.host.place.bind(bench.host);
    vi.spyOn(bench.host, 'place').mockImplementation((piece) =>
      piece.slot === 1 ? 'never' : place(piece),
    );
    const moves = [0, 1, 2].flatMap((slot) => bench.moves(0, slot, 1));
    expect(spillAll(bench, moves)).toBe(3);
    const lost = [{ part: 'context', slot: 1 }];
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
    const bench = await opened();
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
    const bench = await opened();
    bench.write(0, 1);
    await bench.route.lanes[0]!.close();
    spillAll(bench, bench.moves(0, 5, 1));
    const lost = [{ part: 'context', slot: 5 }];
    expect(await bench.end()).toEqual([
      { kind: 'slots-lost', store: 'host', failure: 'lane-lost', lost },
    ]);
  });

  test('what could not be written is not read, whatever was there before', async () => {
    const bench = await opened();
    bench.write(0, 1);
    spillAll(bench, bench.moves(0, 5, 1));
    await bench.end();
    bench.write(0, 2);
    bench.write(9, 3);
    const cross = vi.spyOn(bench.route, 'cross').mockRejectedValueOnce(new Error('lost'));
    spillAll(bench, bench.moves(0, 5, 2));
    // Asked for while nobody knows yet.
    const id = restoreAll(bench, bench.moves(9, 5, 2));
    bench.mover.demote('a', [{ part: 'context', hostSlot: 5, diskSlot: 0, key: keyOf(2) }]);
    const part = { part: 'context', slot: 5 };
    expect(await bench.end()).toEqual([
      { kind: 'slots-lost', store: 'host', failure: 'lane-lost', lost: [part] },
      { kind: 'restore-failed', id, failure: 'lane-lost', lost: [part] },
      {
        kind: 'slots-lost',
        store: 'disk',
        failure: 'lane-lost',
        lost: [{ part: 'context', slot: 0 }],
      },
    ]);
    expect(cross).toHaveBeenCalledTimes(1);
    expect((await bench.pages())[9]).toEqual(bytesOf(3));
  });

  test('what disk has not kept is refused, and only that', async () => {
    const bench = await opened();
    bench.write(0, 1);
    bench.write(1, 2);
    spillAll(bench, [...bench.moves(0, 0, 1), ...bench.moves(1, 1, 2)]);
    const demotion = (hostSlot: number, diskSlot: number, content: number): Demotion => ({
      part: 'context',
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
      const lost = [{ part: 'context', slot: move.slot }];
      const failed = { kind: 'restore-failed', id, failure: 'not-authentic', lost };
      expect(await bench.end()).toEqual([failed]);
    }
    expect((await bench.pages())[9]).toEqual(bytesOf(3));
    bench.mover.drop('disk', [{ part: 'context', slot: 0 }]);
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
    const bench = await opened();
    bench.write(0, 1);
    spillAll(bench, bench.moves(0, 0, 1));
    await bench.end();
    await bench.thread.close();
    bench.mover.demote('a', [{ part: 'context', hostSlot: 0, diskSlot: 0, key: keyOf(1) }]);
    expect(await bench.end()).toMatchObject([{ kind: 'slots-lost', failure: 'disk-failed' }]);
    const id = restoreAll(bench, bench.moves(3, 0, 1), 'disk');
    expect(await bench.end()).toMatchObject([{ id, failure: 'disk-failed' }]);
    restoreAll(bench, bench.moves(3, 0, 1));
    await bench.end();
    expect((await bench.pages())[3]).toEqual(bytesOf(1));
  });
});

/** Pieces of states that cross, in order. */
const ofPieces = ({ crossed }: MoverBench) =>
  crossed.filter(({ purpose }) => purpose.startsWith('kv-')).map(({ bytes }) => bytes);

const stateMove = (page: number, slot: number, content: number): PageMove => {
  return { part: 'state', page, slot, key: keyOf(content) };
};

describe('a state that is larger than what should cross at once', () => {
  const open = (options: BenchOptions = {}) => opened({ parts: ALL, ...options });

  test('crosses in pieces, and needs no more room than one when it comes back', async () => {
    const bench = await open({ crossingPages: 1, restorePages: 1 });
    bench.write(4, 9, 'state');
    bench.crossed.length = 0;
    expect(spillAll(bench, [stateMove(4, 2, 9)])).toBe(1);
    bench.write(4, 1, 'state');
    await bench.end();
    const id = restoreAll(bench, [stateMove(7, 2, 9)]);
    expect(await bench.end()).toMatchObject([{ kind: 'restored', id, bytes: STATE.bytes }]);
    expect(ofPieces(bench)).toEqual([224, 224, 208, 224, 224, 208]);
    const states = await bench.pages('state');
    expect([states[4], states[7]]).toEqual([bytesOf(1, STATE), bytesOf(9, STATE)]);
  });

  test('is not taken where staging has no room for all of it, and others are', async () => {
    const bench = await open({ stagingPages: 2, crossingPages: 1 });
    bench.writeAll(0, 1);
    expect(spillAll(bench, [stateMove(0, 0, 1)])).toBe(0);
    const moves = bench.moves(0, 0, 1);
    expect(spillAll(bench, moves)).toBe(2);
    await bench.end();
    restoreAll(
      bench,
      moves.slice(0, 2).map((move) => ({ ...move, page: 3 })),
    );
    expect(await bench.end()).toMatchObject([{ kind: 'restored' }]);
    expect((await bench.pages('window'))[3]).toEqual(bytesOf(1, ALL[1]));
  });

  test('leaves its place and its slot to others while it is on its way', async () => {
    // Pieces come one by one, and the slot is written no sooner than the last has left it.
    const bench = await open({ stagingPages: 12, crossingPages: 1, restorePages: 1 });
    bench.write(0, 1, 'state');
    spillAll(bench, [stateMove(0, 3, 1)]);
    // Both are used anew before any piece of the first has crossed, and what was there is read.
    bench.mover.restore({ tenant: 'a', moves: [stateMove(10, 3, 1)], from: 'host' });
    bench.write(0, 2, 'state');
    spillAll(bench, [stateMove(0, 3, 2)]);
    bench.write(0, 5, 'state');
    restoreAll(bench, [stateMove(11, 3, 2)]);
    await bench.end();
    const states = await bench.pages('state');
    const contents = [states[0], states[10], states[11]];
    expect(contents).toEqual([5, 1, 2].map((content) => bytesOf(content, STATE)));
  });

  test('is lost once where one of its pieces is, and never read', async () => {
    const bench = await open({ stagingPages: 12, crossingPages: 1 });
    bench.writeAll(0, 1);
    spillAll(bench, [stateMove(0, 5, 1)]);
    await bench.end();
    for (const failing of [[0], [1], [2], [0, 2]]) {
      bench.write(0, 2, 'state');
      const cross = bench.route.cross.bind(bench.route);
      let crossings = 0;
      const spy = vi.spyOn(bench.route, 'cross').mockImplementation((request) => {
        crossings += 1;
        return failing.includes(crossings - 1) ? Promise.reject(new Error('lost')) : cross(request);
      });
      const [context, window] = bench.moves(0, 5, 2);
      spillAll(bench, [stateMove(0, 5, 2)]);
      const lost = [{ part: 'state', slot: 5 }];
      const id = restoreAll(bench, [stateMove(9, 5, 2)]);
      const settled = (await bench.end()).filter(({ kind }) => kind !== 'spilled');
      expect(settled).toEqual([
        { kind: 'slots-lost', store: 'host', failure: 'lane-lost', lost },
        { kind: 'restore-failed', id, failure: 'lane-lost', lost },
      ]);
      spy.mockRestore();
      // The slot, and those of the same number, serve on.
      spillAll(bench, [context!, window!, stateMove(0, 5, 2)]);
      restoreAll(bench, [stateMove(9, 5, 2)]);
      expect((await bench.end()).at(-1)).toMatchObject({ kind: 'restored' });
      expect((await bench.pages('state'))[9]).toEqual(bytesOf(2, STATE));
      bench.write(9, 3, 'state');
    }
    expect(bench.mover.queue().spillNs).toBe(0);
  });

  test('is lost where the host has no memory for one of its pieces', async () => {
    const bench = await open();
    const place = bench.host.place.bind(bench.host);
    vi.spyOn(bench.host, 'place').mockImplementation((piece) =>
      piece.part === 'state' && piece.piece.index === 2 ? 'never' : place(piece),
    );
    bench.writeAll(0, 1);
    expect(spillAll(bench, bench.moves(0, 1, 1))).toBe(3);
    const lost = [{ part: 'state', slot: 1 }];
    const noMemory = { kind: 'slots-lost', store: 'host', failure: 'no-memory', lost };
    expect((await bench.end()).filter(({ kind }) => kind !== 'spilled')).toEqual([noMemory]);
  });

  test.each([0, 1, 2])(
    'fails what it comes with where piece %i does not come, and can come again',
    async (failing) => {
      const bench = await open({ stagingPages: 12, restorePages: 2, crossingPages: 1 });
      bench.writeAll(0, 1);
      spillAll(bench, bench.moves(0, 0, 1));
      await bench.end();
      const cross = bench.route.cross.bind(bench.route);
      let pieces = 0;
      const spy = vi.spyOn(bench.route, 'cross').mockImplementation((request) => {
        const isOfState = request.device.bytes < 256 && request.device.bytes > 96;
        if (isOfState) pieces += 1;
        const isFailing = isOfState && pieces - 1 === failing;
        return isFailing ? Promise.reject(new Error('lost')) : cross(request);
      });
      const id = restoreAll(bench, bench.moves(9, 0, 1));
      const failed = { kind: 'restore-failed', id, failure: 'lane-lost', lost: [] };
      expect(await bench.end()).toEqual([failed]);
      spy.mockRestore();
      // Its places are others' by now: nothing more is written there.
      bench.writeAll(9, 4);
      restoreAll(bench, bench.moves(8, 0, 1));
      expect(await bench.end()).toMatchObject([{ kind: 'restored' }]);
      await expectAll(bench, [
        [8, 1],
        [9, 4],
      ]);
    },
  );

  test.each([0, 1, 2, 3])(
    'is not written any more once it is cancelled after piece %i',
    async (n) => {
      const bench = await open({ stagingPages: 12, crossingPages: 1, restorePages: 1 });
      bench.write(0, 1, 'state');
      spillAll(bench, [stateMove(0, 0, 1)]);
      await bench.end();
      const cross = bench.route.cross.bind(bench.route);
      let pieces = 0;
      let cancel = () => {};
      const spy = vi.spyOn(bench.route, 'cross').mockImplementation(async (request) => {
        // In the middle: behind as many pieces as were brought, before the next arrives.
        const records = await cross(request);
        if (pieces === n) cancel();
        pieces += 1;
        return records;
      });
      const id = bench.mover.restore({ tenant: 'a', moves: [stateMove(9, 0, 1)], from: 'host' });
      cancel = () => {
        bench.mover.cancel(id);
        bench.write(9, 4, 'state');
      };
      bench.mover.queueMoves();
      const settled = await bench.end();
      if (n === 3) cancel();
      expect(settled).toHaveLength(n === 3 ? 1 : 0);
      expect((await bench.pages('state'))[9]).toEqual(bytesOf(4, STATE));
      spy.mockRestore();
      restoreAll(bench, [stateMove(9, 0, 1)]);
      expect((await bench.end()).at(-1)).toMatchObject({ kind: 'restored' });
      expect(bench.mover.queue().restoreNs).toBe(0);
    },
  );

  test('fails whole where the lane is lost between its pieces', async () => {
    const bench = await open({ stagingPages: 12, crossingPages: 1, restorePages: 1 });
    bench.writeAll(0, 1);
    spillAll(bench, bench.moves(0, 0, 1));
    await bench.end();
    const cross = bench.route.cross.bind(bench.route);
    vi.spyOn(bench.route, 'cross').mockImplementation(async (request) => {
      const records = await cross(request);
      if (request.device.bytes === STATE.pieceBytes) await bench.route.lanes[0]!.close();
      return records;
    });
    const id = restoreAll(bench, bench.moves(9, 0, 1));
    expect(await bench.end()).toMatchObject([{ id, failure: 'lane-lost', lost: [] }]);
    expect(bench.mover.laneFailure).not.toBeNull();
    bench.writeAll(9, 4);
    await expectAll(bench, [[9, 4]]);
    expect(spillAll(bench, bench.moves(0, 5, 1))).toBe(0);
  });

  test('is lost on disk where one of its pieces is, once', async () => {
    const bench = await open({ stagingPages: 12, crossingPages: 1 });
    bench.write(0, 1, 'state');
    spillAll(bench, [stateMove(0, 0, 1)]);
    const demote = (diskSlot: number) =>
      bench.mover.demote('a', [{ part: 'state', hostSlot: 0, diskSlot, key: keyOf(1) }]);
    const write = bench.disk.write.bind(bench.disk);
    const written: number[] = [];
    vi.spyOn(bench.disk, 'write').mockImplementation(async (tenant, key, piece, from) => {
      written.push(piece.piece.index);
      return piece.slot === 3 && piece.piece.index === 1
        ? 'disk-full'
        : write(tenant, key, piece, from);
    });
    demote(3);
    demote(4);
    const lost = [{ part: 'state', slot: 3 }];
    const settled = (await bench.end()).filter(({ kind }) => kind !== 'spilled');
    expect(settled).toEqual([{ kind: 'slots-lost', store: 'disk', failure: 'disk-full', lost }]);
    // Nothing is written of it behind the piece that failed.
    expect(written.sort()).toEqual([0, 0, 1, 1, 2]);
    const read = bench.disk.read.bind(bench.disk);
    const spy = vi
      .spyOn(bench.disk, 'read')
      .mockImplementation(async (tenant, key, piece, to) =>
        piece.piece.index === 0 ? read(tenant, key, piece, to) : 'not-authentic',
      );
    const id = restoreAll(bench, [stateMove(9, 4, 1)], 'disk');
    expect(await bench.end()).toEqual([
      { kind: 'restore-failed', id, failure: 'not-authentic', lost: [{ part: 'state', slot: 4 }] },
    ]);
    spy.mockRestore();
    restoreAll(bench, [stateMove(9, 4, 1)], 'disk');
    expect(await bench.end()).toMatchObject([{ kind: 'restored', bytes: STATE.bytes }]);
    expect((await bench.pages('state'))[9]).toEqual(bytesOf(1, STATE));
    // Dropped, no piece of it is read.
    bench.mover.drop('disk', [{ part: 'state', slot: 4 }]);
    const gone = restoreAll(bench, [stateMove(9, 4, 1)], 'disk');
    expect(await bench.end()).toMatchObject([{ id: gone, failure: 'not-authentic' }]);
  });
});

/** Parts of what moves; those that a model does not have are left out. */
const someParts = fc.subarray([...KV_PARTS], { minLength: 1 });

/** What may be asked next. */
const operation = fc.oneof(
  fc.record({
    kind: fc.constant('write' as const),
    parts: someParts,
    page: fc.nat(PAGES - 1),
    content: fc.nat(29),
  }),
  fc.record({
    kind: fc.constant('spill' as const),
    parts: someParts,
    pages: fc.uniqueArray(fc.nat(PAGES - 1), { minLength: 1, maxLength: 5 }),
    slot: fc.nat(HOST_PAGES - 5),
  }),
  fc.record({
    kind: fc.constant('restore' as const),
    parts: someParts,
    from: fc.constantFrom('host' as const, 'disk' as const),
    pages: fc.uniqueArray(fc.nat(PAGES - 1), { minLength: 1, maxLength: 5 }),
    /** Which of the slots that hold something comes first. */
    which: fc.nat(HOST_PAGES - 1),
  }),
  fc.record({
    kind: fc.constant('demote' as const),
    parts: someParts,
    which: fc.nat(HOST_PAGES - 1),
    diskSlot: fc.nat(DISK_PAGES - 1),
  }),
  fc.record({ kind: fc.constant('cancel' as const), which: fc.nat(3) }),
  fc.record({ kind: fc.constantFrom('queue' as const, 'some' as const, 'wait' as const) }),
);
type Operation = typeof operation extends fc.Arbitrary<infer Value> ? Value : never;

/** What a bench should hold, by what was asked of it; absent: undefined content. */
class Expected {
  readonly #bench: MoverBench;
  /** What failed, and how; null: nothing may. */
  readonly #failures: Set<string> | null;
  /** By part and number. */
  readonly #pages = new Map<string, number>();
  readonly #stores = { host: new Map<string, number>(), disk: new Map<string, number>() };
  readonly #restores = new Map<number, readonly (PageMove & { readonly content: number })[]>();

  constructor(bench: MoverBench, failures: Set<string> | null) {
    this.#bench = bench;
    this.#failures = failures;
  }

  #isRestoring(part: KvPart, page: number): boolean {
    return [...this.#restores.values()].some((moves) =>
      moves.some((move) => move.part === part && move.page === page),
    );
  }

  /** One of the slots that hold anything; else the first. */
  #heldSlot(store: StoreName, which: number): number {
    const slots = [...this.#stores[store].keys()].map((name) => Number(name.split(' ')[1]));
    return slots[which % slots.length] ?? 0;
  }

  /** What has ended. */
  take(): void {
    for (const each of this.#bench.mover.settled()) {
      if (each.kind === 'spilled') continue;
      if (this.#failures === null) {
        expect(each).toMatchObject({ kind: 'restored', isComplete: true });
      }
      if ('failure' in each) this.#failures?.add(`${each.kind}: ${each.failure}`);
      if (each.kind === 'restored') {
        for (const { part, page, content } of this.#restores.get(each.id)!) {
          this.#pages.set(`${part} ${page}`, content);
        }
        this.#restores.delete(each.id);
      } else if (each.kind === 'restore-failed') {
        this.#restores.delete(each.id);
      } else {
        for (const { part, slot } of each.lost) this.#stores[each.store].delete(`${part} ${slot}`);
      }
    }
  }

  async do(operation: Operation): Promise<void> {
    const { mover, parts: all } = this.#bench;
    const own = (parts: readonly KvPart[]) => all.filter(({ part }) => parts.includes(part));
    switch (operation.kind) {
      case 'write': {
        const { page, content } = operation;
        for (const { part } of own(operation.parts)) {
          if (this.#isRestoring(part, page)) continue;
          this.#bench.write(page, content, part);
          this.#pages.set(`${part} ${page}`, content);
        }
        return;
      }
      case 'spill': {
        const moves = operation.pages.flatMap((page, i) =>
          own(operation.parts).flatMap(({ part }): PageMove[] => {
            const content = this.#pages.get(`${part} ${page}`);
            if (content === undefined || this.#isRestoring(part, page)) return [];
            return [{ part, page, slot: operation.slot + i, key: keyOf(content) }];
          }),
        );
        const taken = mover.spill({ tenant: 'a', moves });
        for (const { part, page, slot } of moves.slice(0, taken)) {
          this.#stores.host.set(`${part} ${slot}`, this.#pages.get(`${part} ${page}`)!);
        }
        mover.queueMoves();
        return;
      }
      case 'restore': {
        const { from, pages, which } = operation;
        const first = this.#heldSlot(from, which);
        const moves = pages.flatMap((page, i) =>
          own(operation.parts).flatMap(({ part }) => {
            const slot = first + i;
            const content = this.#stores[from].get(`${part} ${slot}`);
            if (content === undefined || this.#isRestoring(part, page)) return [];
            return [{ part, page, slot, key: keyOf(content), content }];
          }),
        );
        if (moves.length === 0) return;
        const id = mover.restore({ tenant: 'a', moves, from });
        for (const { part, page } of moves) this.#pages.delete(`${part} ${page}`);
        this.#restores.set(id, moves);
        mover.queueMoves();
        return;
      }
      case 'demote': {
        const { which, diskSlot } = operation;
        const hostSlot = this.#heldSlot('host', which);
        const demotions = own(operation.parts).flatMap(({ part }): Demotion[] => {
          const content = this.#stores.host.get(`${part} ${hostSlot}`);
          if (content === undefined) return [];
          this.#stores.disk.set(`${part} ${diskSlot}`, content);
          return [{ part, hostSlot, diskSlot, key: keyOf(content) }];
        });
        mover.demote('a', demotions);
        return;
      }
      case 'cancel': {
        const id = [...this.#restores.keys()][operation.which];
        if (id === undefined) return;
        mover.cancel(id);
        this.#restores.delete(id);
        return;
      }
      default:
        if (operation.kind === 'wait') await mover.idle();
        // In the middle: the next one has come to its end, and others are on their way.
        if (operation.kind === 'some') await Promise.race([mover.whenSettled(), mover.idle()]);
        this.take();
        mover.queueMoves();
    }
  }

  /** Everything ends, and what should be somewhere is there, each byte. */
  async check(): Promise<void> {
    const { mover, parts } = this.#bench;
    await mover.idle();
    this.take();
    expect(this.#restores.size).toBe(0);
    expect(mover.queue().restoreNs).toBeCloseTo(0, 3);
    expect(mover.queue().spillNs).toBeCloseTo(0, 3);
    for (const size of parts) {
      const seen = await this.#bench.pages(size.part);
      for (const [name, content] of this.#pages) {
        const [part, page] = name.split(' ');
        if (part === size.part) expect(seen[Number(page)]).toEqual(bytesOf(content, size));
      }
    }
  }
}

const operations = fc.array(operation, { minLength: 10, maxLength: 60 });

test('every page holds what it should, whatever moves, in any order', async () => {
  const before = device.counters();
  const small = { stagingPages: 5, crossingPages: 2 };
  const benches = [
    await opened({ ...small, parts: ONE }),
    await opened({ ...small, parts: BY_LAYER }),
    await opened({ ...small, parts: ALL, crossingPages: 1, restorePages: 1 }),
  ];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...benches), operations, async (bench, asked) => {
      const expected = new Expected(bench, null);
      for (const each of asked) await expected.do(each);
      await expected.check();
    }),
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

test('what is said to be there is, though crossings, memory and disk fail', async () => {
  const bench = await opened({
    parts: ALL,
    stagingPages: 5,
    crossingPages: 1,
    restorePages: 2,
  });
  let draws = 0;
  const fails = (oneIn: number) => (hash32(draws++, 17, 3) >>> 0) % oneIn === 0;
  const cross = bench.route.cross.bind(bench.route);
  vi.spyOn(bench.route, 'cross').mockImplementation((request) =>
    request.purpose.startsWith('kv-') && fails(8)
      ? Promise.reject(new Error('lost'))
      : cross(request),
  );
  const place = bench.host.place.bind(bench.host);
  const write = bench.disk.write.bind(bench.disk);
  vi.spyOn(bench.disk, 'write').mockImplementation(async (...asked) =>
    fails(10) ? 'disk-full' : write(...asked),
  );
  const read = bench.disk.read.bind(bench.disk);
  vi.spyOn(bench.disk, 'read').mockImplementation(async (...asked) =>
    fails(10) ? 'not-authentic' : read(...asked),
  );
  const failures = new Set<string>();
  let isShort = false;
  vi.spyOn(bench.host, 'place').mockImplementation((piece) =>
    isShort && piece.part === 'state' && piece.piece.index === 1 ? 'never' : place(piece),
  );
  await fc.assert(
    fc.asyncProperty(operations, async (asked) => {
      const expected = new Expected(bench, failures);
      for (const each of asked) {
        isShort = each.kind === 'spill' && fails(4);
        await expected.do(each);
        isShort = false;
      }
      await expected.check();
    }),
    { numRuns: 100, seed: 11 },
  );
  expect([...failures].sort()).toEqual([
    'restore-failed: lane-lost',
    'restore-failed: not-authentic',
    'slots-lost: disk-full',
    'slots-lost: lane-lost',
    'slots-lost: no-memory',
  ]);
  expect(bench.mover.laneFailure).toBeNull();
}, 60_000);

test('is waited for any number of times until something settles', async () => {
  const bench = await opened();
  const waits = Array.from({ length: 50_000 }, () => bench.mover.whenSettled());
  // Who waits launch after launch costs nothing more.
  expect(new Set(waits).size).toBe(1);
  bench.write(0, 1);
  spillAll(bench, bench.moves(0, 0, 1));
  await waits[0];
  expect(await bench.end()).toMatchObject([{ kind: 'spilled' }]);
});
