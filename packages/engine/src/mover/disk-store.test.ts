import { expect, test } from 'vitest';
import type { KvPart } from '../kv/tiers/movement.ts';
import { DiskMeter } from './disk-meter.ts';
import { DiskStore } from './disk-store.ts';
import { type PartSize, piecesOf } from './part-places.ts';
import type { SealFailure } from './sealed-slots.ts';
import type { StoreOrder } from './store-protocol.ts';

const PARTS: readonly PartSize[] = [
  { part: 'context', bytes: 16, pieceBytes: 16 },
  { part: 'window', bytes: 24, pieceBytes: 8 },
];
const SLOTS = { context: 1000, window: 1000 };

/** A thread whose disk takes its time: it ends orders when it is told to. */
class SlowThread {
  readonly asked: StoreOrder[] = [];
  readonly #ends: ((failure: SealFailure | null) => void)[] = [];

  do(order: StoreOrder): Promise<SealFailure | null> {
    this.asked.push(order);
    return new Promise((resolve) => this.#ends.push(resolve));
  }

  async endFirst(failure: SealFailure | null = null): Promise<void> {
    this.#ends.shift()!(failure);
    // What waited for it goes on in turns of its own.
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  }
}

const handle = { kind: 'shared', memory: new SharedArrayBuffer(64), bytes: 64 } as const;
const host = { handle, offsetBytes: 16 };

function opened() {
  const thread = new SlowThread();
  const meter = new DiskMeter(() => 0);
  const disk = new DiskStore({ thread, parts: PARTS, slots: SLOTS, meter });
  const write = (slot: number, part: KvPart = 'context', index = 0) => {
    const piece = piecesOf(PARTS.find((each) => each.part === part)!)[index]!;
    return disk.write('a', `k${slot}`, { part, slot, piece }, host);
  };
  return { thread, disk, write };
}

test('a read waits for no more than the writes that the disk was given', async () => {
  const { thread, disk, write } = opened();
  for (let slot = 0; slot < 20; slot++) void write(slot);
  const piece = { index: 0, fromBytes: 0, bytes: 16 };
  void disk.read('a', 'k', { part: 'context', slot: 99, piece }, host);
  expect(thread.asked.map(({ kind }) => kind)).toEqual(['write', 'write', 'read']);
  await thread.endFirst();
  expect(thread.asked.at(-1)).toMatchObject({ kind: 'write', position: 2 * 16 });
});

test('a disk that falls behind takes no more for a while, and loses nothing it took', async () => {
  const { thread, write } = opened();
  const results = Array.from({ length: 300 }, (_, slot) => write(slot));
  expect(await results.at(-1)).toBe('disk-busy');
  let ended = 0;
  for (; ended < thread.asked.length; ended++) await thread.endFirst();
  const all = await Promise.all(results);
  expect(all.filter((failure) => failure === null)).toHaveLength(ended);
  expect(all.indexOf('disk-busy')).toBe(ended);
  const next = write(300);
  await thread.endFirst('disk-full');
  expect(await next).toBe('disk-full');
});

test('slots of all parts, and pieces of each, lie apart and are sealed as such', async () => {
  const { thread, disk, write } = opened();
  void write(999);
  void write(0, 'window');
  void write(1, 'window', 2);
  await thread.endFirst();
  const ends = thread.asked.map((order) =>
    order.kind === 'write' ? [order.position, order.position + order.bytes] : [],
  );
  expect(ends).toEqual([
    [999 * 16, 1000 * 16],
    [1000 * 16, 1000 * 16 + 8],
    [1000 * 16 + 24 + 16, 1000 * 16 + 24 + 24],
  ]);
  expect(thread.asked.at(-1)).toMatchObject({ identity: { part: 'window', fromBytes: 16 } });
  disk.drop({ part: 'window', slot: 1 });
  const positions = [0, 8, 16].map((from) => 1000 * 16 + 24 + from);
  expect(thread.asked.at(-1)).toEqual({ kind: 'drop', positions });
});
