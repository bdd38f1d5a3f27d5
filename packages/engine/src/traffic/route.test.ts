import {
  type CrossingRecord,
  type Direction,
  type Profile,
  profileLaw,
  referenceProfile,
} from '@bridgekeeper/bridge';
import {
  type CopyRequest,
  type Device,
  hash32,
  type Lane,
  openCpuDevice,
  openModelDevice,
  slice,
  VirtualClock,
} from '@bridgekeeper/device';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Route } from './route.ts';
import { Traffic } from './traffic.ts';

const MIB = 2 ** 20;
const profile: Profile = referenceProfile('b300-cc');

let device: Device;
let traffic: Traffic;
let crossed: CrossingRecord[];
beforeEach(() => {
  const clock = new VirtualClock();
  clock.runFreely();
  device = openModelDevice({ law: profileLaw(profile), clock });
  crossed = [];
  const onCrossing = (record: CrossingRecord) => crossed.push(record);
  traffic = new Traffic({ device, profile, onCrossing });
});

function request(
  purpose: CopyRequest['purpose'],
  bytes: number,
  { tenant = 'a', direction = 'h2d' as Direction } = {},
): CopyRequest {
  return {
    direction,
    device: slice(device.allocate(bytes, purpose)),
    host: device.allocateHost(bytes, 'pinned', purpose),
    hostOffsetBytes: 0,
    stream: device.createStream(purpose),
    purpose,
    tenant,
  };
}

const purposes = () => crossed.map(({ purpose }) => purpose);

describe('a route', () => {
  test('copies at once, before it returns, where a lane is free', async () => {
    const crossing = traffic.launching.cross(request('weights', 64));
    expect(device.counters().copies).toBe(1);
    expect(await crossing).toMatchObject([{ bytes: 64, lane: 'inline', purpose: 'weights' }]);
  });

  test('cuts bulk so that a step waits for what its lane holds, and for no more', async () => {
    const route = await traffic.openRoute('kv');
    const spill = route.cross(request('kv-spill', 1024 * MIB, { direction: 'd2h' }));
    const drain = route.cross(request('tokens', 4096, { direction: 'd2h' }));
    const [records] = await Promise.all([spill, drain]);
    expect(records.length).toBeGreaterThan(4);
    expect(records.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(1024 * MIB);
    for (const { startedNs, completedNs } of records) {
      expect(completedNs - startedNs).toBeLessThanOrEqual(10e6);
    }
    // Two pieces had been handed to the lane when the step's tokens came.
    expect(purposes().indexOf('tokens')).toBe(2);
  });

  test('carries the pieces of a crossing to the places that they belong to', async () => {
    const cpu = await openCpuDevice({ threads: 1 });
    const { h2d, d2h } = profile.crossings;
    const slow = { ...h2d.pinned, bandwidth: [{ bytes: 1, bytesPerSecond: 1e6 }] };
    const crossings = { h2d: { ...h2d, pinned: slow }, d2h: { ...d2h, pinned: slow } };
    const cut = new Traffic({ device: cpu, profile: { ...profile, crossings } });
    const stream = cpu.createStream('pieces');
    const [from, to] = [0, 1].map((n) => cpu.allocateHost(MIB + 100, 'pinned', `host ${n}`));
    from!.bytes.set(from!.bytes.map((_, i) => (i * 31) >> 8));
    const there = slice(cpu.allocate(MIB + 256, 'there'), 16, MIB);
    const way = { device: there, hostOffsetBytes: 100, stream, tenant: 'a' } as const;
    await cut.launching.cross({ ...way, host: from!, direction: 'h2d', purpose: 'kv-restore' });
    const records = await cut.launching.cross({
      ...way,
      host: to!,
      direction: 'd2h',
      purpose: 'kv-spill',
    });
    expect(records.map(({ bytes }) => bytes)).toEqual(new Array(16).fill(64 * 1024));
    expect(Buffer.compare(to!.bytes.subarray(100), from!.bytes.subarray(100))).toBe(0);
    await cpu.close();
  });

  test('shares its lane among tenants by bytes', async () => {
    const first = traffic.launching.cross(request('kv-spill', 512 * MIB, { tenant: 'a' }));
    const second = traffic.launching.cross(request('kv-spill', 512 * MIB, { tenant: 'b' }));
    await Promise.all([first, second]);
    const half = crossed.slice(0, crossed.length / 2);
    const bytesOf = (tenant: string) =>
      half.reduce((sum, record) => sum + (record.tenant === tenant ? record.bytes : 0), 0);
    // What the lane had been handed when b came was a's.
    const handed = 4 * half[0]!.bytes;
    expect(Math.abs(bytesOf('a') - bytesOf('b'))).toBeLessThanOrEqual(handed);
  });

  test('over several lanes keeps all of them busy', async () => {
    const route = await traffic.bulkRoute(2);
    await Promise.all([1, 2, 3, 4].map(() => route.cross(request('weights', MIB))));
    const [first, second] = route.lanes.map(
      ({ id }) => crossed.filter(({ lane }) => lane === id).length,
    );
    expect([first, second]).toEqual([2, 2]);
    const pair = await Promise.all([1, 2].map(() => route.cross(request('weights', MIB))));
    expect(new Set(pair.flat().map(({ lane }) => lane)).size).toBe(2);
  });

  test('spreads crossings that come together, also after a load that ended unevenly', async () => {
    const route = await traffic.bulkRoute(2);
    const wave = (count: number, seed: number) =>
      Array.from({ length: count }, (_, i) =>
        route.cross(request('weights', 64 * (1 + ((hash32(seed, count, i) >>> 0) % 5000)))),
      );
    for (let seed = 0; seed < 30; seed++) {
      await Promise.all(wave(3 + (seed % 7), seed));
      const pair = await Promise.all(wave(2, seed));
      expect(new Set(pair.flat().map(({ lane }) => lane)).size).toBe(2);
    }
  });

  test('gives no lane more copies at once than its turns', async () => {
    const { inlineLane } = device;
    const most = new Map<string, number>();
    const counting = (id: string): Lane => {
      let underWay = 0;
      return {
        id,
        kind: 'worker',
        close: () => Promise.resolve(),
        copy: async (wanted) => {
          underWay += 1;
          most.set(id, Math.max(most.get(id) ?? 0, underWay));
          const record = await inlineLane.copy(wanted);
          underWay -= 1;
          return record;
        },
      };
    };
    const options = { turnsPerLane: 2, pieceBytes: () => MIB, onRecord: () => undefined };
    const route = new Route(['a', 'b', 'c'].map(counting), options);
    await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        route.cross(request('weights', 1 + ((hash32(i, 0, 0) >>> 0) % (4 * MIB)))),
      ),
    );
    expect([...most.values()]).toEqual([2, 2, 2]);
  });

  test('says that a copy was made when it is its record that is refused', async () => {
    const refuse = () => {
      throw new Error('no such lane');
    };
    const options = { turnsPerLane: 1, pieceBytes: () => MIB, onRecord: refuse };
    const route = new Route([device.inlineLane], options);
    for (const way of ['cross', 'crossNow'] as const) {
      await expect(route[way](request('tokens', 64))).rejects.toMatchObject({
        name: 'InvariantError',
        message: expect.stringContaining('was made'),
        cause: { message: 'no such lane' },
      });
    }
    route.close();
  });

  test('a crossing that fails is not made further, and fails alone', async () => {
    const route = await traffic.openRoute('kv');
    const large = request('kv-restore', 512 * MIB);
    const broken = route.cross({ ...large, hostOffsetBytes: 256 * MIB });
    const next = route.cross(request('kv-restore', MIB));
    await expect(broken).rejects.toMatchObject({ name: 'DeviceError', code: 'bad-argument' });
    expect(await next).toMatchObject([{ bytes: MIB }]);
    const half = crossed.filter(({ bytes }) => bytes !== MIB);
    expect(half.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(256 * MIB);
    expect(device.counters().copies).toBe(crossed.length);
  });

  test('issues a copy of a step at once, past what waits; bulk may not pass', async () => {
    const waiting = Array.from({ length: 8 }, () =>
      traffic.launching.cross(request('weights', 32 * MIB)),
    );
    const before = device.counters().copies;
    const now = traffic.launching.crossNow(request('tokens', 64, { direction: 'd2h' }));
    expect(device.counters().copies).toBe(before + 1);
    await Promise.all([...waiting, now]);
    expect(purposes().lastIndexOf('tokens')).toBeLessThan(purposes().length - 1);
    await expect(traffic.launching.crossNow(request('weights', 64))).rejects.toThrow(
      'may not pass',
    );
  });

  test('rejects with the first failure of a crossing, and makes no later piece', async () => {
    const { inlineLane } = device;
    let copies = 0;
    const failing: Lane = {
      id: 'failing',
      kind: inlineLane.kind,
      close: () => Promise.resolve(),
      copy: async (wanted) => {
        copies += 1;
        if (copies > 3) throw new Error(`copy ${copies} failed`);
        return inlineLane.copy(wanted);
      },
    };
    const records: CrossingRecord[] = [];
    const route = new Route([failing], {
      turnsPerLane: 2,
      pieceBytes: () => MIB,
      onRecord: (record) => records.push(record),
    });
    await expect(route.cross(request('kv-spill', 16 * MIB))).rejects.toThrow('copy 4 failed');
    // Two were with the lane when the first of them failed.
    expect(copies).toBeLessThanOrEqual(5);
    expect(records).toHaveLength(3);
    route.close();
  });

  test('lets bulk have a turn after eight chunks of what goes before it', async () => {
    const spill = traffic.launching.cross(request('kv-spill', 64));
    const waiting = Array.from({ length: 4 }, () => request('kv-restore', 64)).map((one) =>
      traffic.launching.cross(one),
    );
    const bulk = traffic.launching.cross(request('weights', 64));
    const urgent = Array.from({ length: 20 }, () =>
      traffic.launching.cross(request('command', 64)),
    );
    await Promise.all([spill, bulk, ...waiting, ...urgent]);
    // The lane had four; then eight commands went before the restore that waited, and so on.
    const order = crossed.toSorted((a, b) => a.startedNs - b.startedNs);
    const lower = order.flatMap(({ purpose }, at) => (purpose === 'command' ? [] : [at]));
    expect(lower).toEqual([0, 1, 2, 3, 12, 21]);
  });

  test('has a lane, and issues commands, tokens and probes at once on one alone', async () => {
    const options = { turnsPerLane: 1, pieceBytes: () => MIB, onRecord: () => undefined };
    expect(() => new Route([], options)).toThrow('has a lane');
    await traffic.launching.crossNow(request('probe', 64));
    await traffic.launching.crossNow(request('command', 64));
    const two = await traffic.bulkRoute(2);
    await expect(two.crossNow(request('tokens', 64))).rejects.toThrow('one lane');
    await traffic.closeReserved();
    await expect(two.crossNow(request('tokens', 64))).rejects.toThrow('closed route');
  });

  test('carries nothing once it is closed, and is not closed while it carries', async () => {
    const route = await traffic.openRoute('drain');
    const crossing = route.cross(request('tokens', 64));
    await expect(traffic.closeRoute(route)).rejects.toThrow('are done');
    await crossing;
    const now = route.crossNow(request('tokens', 64));
    await expect(traffic.closeRoute(route)).rejects.toThrow('are done');
    await now;
    await traffic.closeRoute(route);
    expect(() => route.cross(request('tokens', 64))).toThrow('closed route');
  });
});

describe('traffic', () => {
  test('has all crossings in its ledger, by whatever way they went', async () => {
    const drain = await traffic.openRoute('drain');
    await traffic.upload(new Uint8Array(40 * MIB), request('weights', 40 * MIB).device);
    await drain.cross(request('tokens', 512, { direction: 'd2h' }));
    await drain.crossNow(request('command', 256));
    const from = request('probe', 128).device;
    expect(await traffic.download(from, device.createStream('d'), 'probe')).toHaveLength(128);
    const { totals, lanes } = traffic.snapshot();
    const { h2dBytes, d2hBytes, copies } = device.counters();
    const sum = (direction: Direction) =>
      totals.reduce((all, each) => all + (each.direction === direction ? each.bytes : 0), 0);
    expect([sum('h2d'), sum('d2h')]).toEqual([h2dBytes, d2hBytes]);
    expect(totals.reduce((all, { crossings }) => all + crossings, 0)).toBe(copies);
    expect(lanes.map(({ kind }) => kind)).toEqual(['inline', 'worker']);
  });

  test('uploads on one stream, and nothing for nothing', async () => {
    const streams = vi.spyOn(device, 'createStream');
    const hosts = vi.spyOn(device, 'allocateHost');
    const to = slice(device.allocate(64, 'to'));
    await traffic.upload(new Uint8Array(0), to);
    expect([streams, hosts].map(({ mock }) => mock.calls.length)).toEqual([0, 0]);
    await traffic.upload(new Uint8Array(64), to);
    await traffic.upload(new Uint8Array(32), to);
    // What nobody reads crosses all the same.
    await traffic.upload(48, to);
    expect(streams).toHaveBeenCalledTimes(1);
    expect(crossed.map(({ bytes }) => bytes)).toEqual([64, 32, 48]);
  });

  test('opens lanes ahead, for weights first and for steps then', async () => {
    traffic.reserve(2);
    const bulk = await traffic.bulkRoute(2);
    const again = await traffic.bulkRoute(1);
    expect(() => bulk.cross(request('weights', 64))).toThrow('closed route');
    expect(again.lanes).toEqual([bulk.lanes[0]]);
    const command = await traffic.openRoute('command');
    expect(command.lanes).toEqual([bulk.lanes[0]]);
    expect(await traffic.bulkRoute(0)).toBe(traffic.launching);
    await traffic.closeReserved();
  });

  test('a machine that refuses contexts gives fewer lanes, or says why it gives none', async () => {
    const { max } = profile.contexts;
    const route = await traffic.bulkRoute(max + 3);
    expect(route.lanes).toHaveLength(max - 1);
    await expect(new Traffic({ device, profile }).bulkRoute(1)).rejects.toMatchObject({
      code: 'too-many-contexts',
    });
    await traffic.closeReserved();
  });
});
