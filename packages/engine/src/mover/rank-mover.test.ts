import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, openCpuDevice } from '@bridgekeeper/device';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PageMove, StoreName } from '../kv/tiers/movement.ts';
import { RankMover } from './rank-mover.ts';
import { bytesOf, keyOf, MoverBench, PAGE_BYTES } from './testing/mover-bench.ts';

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

describe('of several ranks', () => {
  /** Of the same pages and slots; `staging` by rank. */
  async function ofRanks(staging: readonly number[]) {
    const ranks: MoverBench[] = [];
    const place = { device, folder, atEnd: open };
    for (const stagingPages of staging)
      ranks.push(await MoverBench.open(place, { stagingPages, restorePages: 6 }));
    const mover = new RankMover(ranks.map((rank) => rank.mover));
    const moves = (page: number, slot: number, content: number) =>
      ranks[0]!.moves(page, slot, content);
    /** A step writes on each rank what is its own. */
    const write = (page: number, content: number) => {
      for (const [index, rank] of ranks.entries()) rank.write(page, content + index);
    };
    const end = async () => {
      await mover.idle();
      return mover.settled();
    };
    const expectPage = async (page: number, content: number) => {
      for (const [index, rank] of ranks.entries()) {
        expect((await rank.pages())[page]).toEqual(bytesOf(content + index));
      }
    };
    const spill = (all: readonly PageMove[]) => {
      const taken = mover.spill({ tenant: 'a', moves: all });
      void mover.queueMoves();
      return taken;
    };
    const restore = (all: readonly PageMove[], from: StoreName = 'host') => {
      const id = mover.restore({ tenant: 'a', moves: all, from });
      void mover.queueMoves();
      return id;
    };
    return { ranks, mover, moves, write, end, expectPage, spill, restore };
  }

  test('each moves its own part, and all is told once', async () => {
    const { mover, moves, write, end, expectPage, spill, restore } = await ofRanks([6, 6]);
    for (const page of [0, 1]) write(page, 10 * page);
    expect(spill([...moves(0, 4, 0), ...moves(1, 5, 10)])).toBe(2);
    expect(await end()).toMatchObject([{ kind: 'spilled' }, { kind: 'spilled' }]);
    mover.demote('a', [{ part: 'context', hostSlot: 5, diskSlot: 3, key: keyOf(10) }]);
    const id = restore(moves(7, 4, 0));
    expect(mover.dueNs(id)).toBeGreaterThan(0);
    const bytes = 2 * PAGE_BYTES;
    expect(await end()).toMatchObject([{ kind: 'restored', id, isComplete: true, bytes }]);
    const fromDisk = restore(moves(8, 3, 10), 'disk');
    expect(await end()).toMatchObject([{ kind: 'restored', id: fromDisk, bytes }]);
    await expectPage(7, 0);
    await expectPage(8, 10);
    expect(mover.queue()).toEqual({ spillNs: 0, restoreNs: 0, diskNs: expect.any(Number) });
  });

  test('what one has no room for, none keeps', async () => {
    const { moves, write, end, expectPage, spill, restore } = await ofRanks([6, 2, 4]);
    for (let page = 0; page < 5; page++) write(page, 5 * page);
    const all = [0, 1, 2, 3, 4].flatMap((page) => moves(page, page, 5 * page));
    expect(spill(all)).toBe(2);
    await end();
    // The slot after them is another's at once.
    expect(spill(moves(4, 2, 20))).toBe(1);
    await end();
    restore([...moves(10, 1, 5), ...moves(11, 2, 20)]);
    expect(await end()).toMatchObject([{ kind: 'restored' }]);
    await expectPage(10, 5);
    await expectPage(11, 20);
  });

  test('where one fails, the others write nothing more', async () => {
    const { ranks, mover, moves, write, end, expectPage, spill, restore } = await ofRanks([6, 6]);
    write(0, 1);
    spill(moves(0, 0, 1));
    await end();
    await ranks[1]!.route.lanes[0]!.close();
    const id = restore(moves(3, 0, 1));
    expect(await end()).toMatchObject([{ kind: 'restore-failed', id, failure: 'lane-lost' }]);
    expect(mover.laneFailure).not.toBeNull();
    write(3, 8);
    void mover.queueMoves();
    expect(await end()).toEqual([]);
    await expectPage(3, 8);
    expect(spill(moves(0, 1, 1))).toBe(0);
  });

  test('what is given up comes back from none of them', async () => {
    const { mover, moves, write, end, expectPage, spill, restore } = await ofRanks([6, 6]);
    write(0, 1);
    spill(moves(0, 0, 1));
    await end();
    for (const isThere of [false, true]) {
      const id = restore(moves(5, 0, 1));
      if (isThere) await mover.idle();
      mover.cancel(id);
      write(5, 9);
      void mover.queueMoves();
      expect(await end()).toEqual([]);
      await expectPage(5, 9);
    }
    expect(mover.isIdle).toBe(true);
  });
});
