import { type Device, DeviceError, openCpuDevice } from '@bridgekeeper/device';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { KvPart } from '../kv/tiers/movement.ts';
import { HostStore } from './host-store.ts';
import { piecesOf } from './part-places.ts';
import { CONTEXT, ONE, PAGE_BYTES } from './testing/mover-bench.ts';

let device: Device;
beforeAll(async () => {
  device = await openCpuDevice({ threads: 1 });
});
afterAll(() => device.close());

test('host memory that is refused loses its slots, and the others serve on', async () => {
  const device = await openCpuDevice({ threads: 1 });
  let blocks = 0;
  vi.spyOn(device, 'allocateHost').mockImplementation((bytes, memory, label) => {
    blocks += 1;
    if (blocks > 4) throw new DeviceError('out-of-memory', 'no more host memory');
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
    parts: [
      { part: 'context', bytes: 96, pieceBytes: 96 },
      { part: 'state', bytes: 48, pieceBytes: 32 },
    ],
    slots: { context: 9, state: 9 },
    blockBytes: 3 * 96,
    availableBytes: () => Number.POSITIVE_INFINITY,
    touch: async () => undefined,
  });
  const place = (part: KvPart, slot: number, index = 0) =>
    store.place({ part, slot, piece: { index, fromBytes: 32 * index, bytes: 16 } });
  expect(place('context', 0)).toBe('later');
  await store.grow();
  // Three blocks for contexts and two for states are wanted: both grow alike.
  expect(store.readyBytes).toBe(2 * 3 * 96 + 2 * 9 * 32);
  expect(place('context', 5)).toMatchObject({ host: { id: 3 }, offsetBytes: 2 * 96 });
  expect(place('context', 6)).toBe('never');
  // Two pieces each, of which nine are in a block.
  expect(place('state', 4, 0)).toMatchObject({ host: { id: 2 }, offsetBytes: 8 * 32 });
  expect(place('state', 4, 1)).toMatchObject({ host: { id: 4 }, offsetBytes: 0 });
  await device.close();
});

test('host memory that the system does not have is not taken', async () => {
  let availableBytes = 2 ** 30 + 2 * 4 * PAGE_BYTES;
  const store = new HostStore({
    device,
    memory: 'pageable',
    parts: ONE,
    slots: { context: 100 },
    blockBytes: 4 * PAGE_BYTES,
    availableBytes: () => availableBytes,
    touch: async ({ bytes }) => {
      availableBytes -= bytes;
    },
  });
  await store.grow();
  expect(store.readyBytes).toBe(2 * 4 * PAGE_BYTES);
  const [piece] = piecesOf(CONTEXT);
  expect(store.place({ part: 'context', slot: 8, piece: piece! })).toBe('never');
  store.close();
});

test('blocks are of one size, and together what was asked for', async () => {
  const store = new HostStore({
    device,
    memory: 'pageable',
    parts: ONE,
    slots: { context: 9 },
    blockBytes: 8 * PAGE_BYTES,
    availableBytes: () => Number.POSITIVE_INFINITY,
    touch: async () => undefined,
  });
  await store.grow();
  // Two of five, and not two of eight.
  expect(store.readyBytes).toBe(2 * 5 * PAGE_BYTES);
  store.close();
});
