import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { referenceProfile } from '@bridgekeeper/bridge';
import { openCpuDevice, slice } from '@bridgekeeper/device';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Traffic } from '../traffic/traffic.ts';
import { hostMemoryFor, lanePriceOf } from './lane-budget.ts';
import { openTiers, stagingBytes } from './open-tiers.ts';

const BYTES = { context: 4096, window: 1024, state: 40_000 } as const;
const CROSSING_BYTES = 16_384;
/** 40,000 bytes in three. */
const PIECE_BYTES = 13_344;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-tiers-'));
});
afterEach(() => rm(folder, { recursive: true }));

test('each part has slots, prices of its own bytes, and comes back', async () => {
  const device = await openCpuDevice({ threads: 1 });
  const profile = referenceProfile('b300-cc');
  const traffic = new Traffic({ device, profile });
  const bufferOf = (bytes: number) => slice(device.allocate(bytes, 'kv'));
  const pools = {
    context: bufferOf(8 * 4096),
    window: bufferOf(8 * 1024),
    state: bufferOf(80_000),
  };
  const limits = {
    hostBytes: 2 ** 20,
    disk: { folder, bytes: 2 ** 19 },
    spillLaneShare: 1,
    policy: 'lru',
    crossingBytes: CROSSING_BYTES,
  } as const;
  const staging = stagingBytes(
    profile,
    { pageBytes: BYTES.context, stateBytes: BYTES.state },
    2 ** 20,
    limits,
  );
  // A state is there whole when it leaves, and piece by piece when it comes.
  expect(staging).toEqual({ spillBytes: 2 * CROSSING_BYTES + 40_000, restoreBytes: 8 * 16_384 });
  const tiers = await openTiers({
    device,
    traffic,
    profile,
    limits,
    parts: (['context', 'window', 'state'] as const).map((part) => {
      return { part, bytes: BYTES[part], pool: () => pools[part] };
    }),
    usual: { pageTokens: 16, contextTokens: 1024, windowPages: 8 },
    model: 'a model',
    availableHostBytes: () => Number.POSITIVE_INFINITY,
    stream: device.createStream('engine'),
    spillStaging: bufferOf(staging.spillBytes),
    restoreStaging: bufferOf(staging.restoreBytes),
  });
  const { mover, host, prices } = tiers;
  expect(mover.parts).toEqual(['context', 'window', 'state']);
  // Contexts and windows have three quarters: 4096 bytes and an eighth of 1024 for each page.
  expect(mover.slots).toEqual({
    host: { context: 186, window: 23, state: 6 },
    disk: { context: 93, window: 11, state: 3 },
  });
  const laneNs = lanePriceOf(profile, hostMemoryFor(profile, CROSSING_BYTES));
  const shared = laneNs('h2d', CROSSING_BYTES) / CROSSING_BYTES;
  expect(prices.readNs('host')).toBe(prices.readNs('host', 'context'));
  expect(prices.readNs('host', 'context')).toBeCloseTo(4096 * shared);
  expect(prices.readNs('host', 'window')).toBeCloseTo(1024 * shared);
  const piece = laneNs('h2d', PIECE_BYTES) / PIECE_BYTES;
  expect(prices.readNs('host', 'state')).toBeCloseTo(40_000 * piece);
  expect(prices.writeNs('host', 'state')).toBeCloseTo(
    (40_000 * laneNs('d2h', PIECE_BYTES)) / PIECE_BYTES,
  );
  for (const [part, bytes] of Object.entries(BYTES)) {
    const name = part as keyof typeof BYTES;
    const diskNs = prices.readNs('disk', name) - prices.readNs('host', name);
    // A disk of which nothing is known takes a nanosecond for a byte.
    expect(diskNs).toBeCloseTo(bytes, 3);
    expect(prices.writeNs('disk', name)).toBeCloseTo(bytes, 3);
  }
  await host.grow();
  const all = mover.parts.map((part) => ({ part, page: 1, slot: 2, key: 'k' }));
  expect(mover.spill({ tenant: 'a', moves: all })).toBe(3);
  const id = mover.restore({ tenant: 'a', moves: all, from: 'host' });
  void mover.queueMoves();
  await mover.idle();
  const bytes = 4096 + 1024 + 40_000;
  expect(mover.settled().at(-1)).toMatchObject({ kind: 'restored', id, bytes });
  await tiers.close();
  await device.close();
});
