import { type CrossingRecord, Ledger, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../clock/virtual-clock.ts';
import { type HostBuffer, type Lane, slice } from '../device.ts';
import { DeviceError, type DeviceErrorCode } from '../errors.ts';
import { openModelDevice } from './model-device.ts';
import { ModelBench, roundProfile } from './testing.ts';

/** The times of a record relative to when it was issued. */
function times(record: CrossingRecord): number[] {
  const { issuedNs, startedNs, completedNs, issuerBlockedNs } = record;
  return [issuedNs, startedNs, completedNs, issuerBlockedNs];
}

async function codeOf(work: () => unknown): Promise<DeviceErrorCode | 'none'> {
  try {
    await work();
  } catch (error) {
    if (error instanceof DeviceError) return error.code;
    throw error;
  }
  return 'none';
}

describe('kernels and launches', () => {
  test('a launch takes the thread, then the kernel takes the stream', async () => {
    const bench = new ModelBench();
    bench.kernel(8_000);
    // 5 us to launch, 8 us for 8000 bytes, 1 us on top; 4 us to notice.
    await bench.until(bench.stream.synchronize());
    expect(bench.clock.nowNs()).toBe(5_000 + 9_000 + 4_000);
  });

  test('short kernels are bound by launches, in a graph by their own least time', async () => {
    const eager = new ModelBench();
    for (let i = 0; i < 10; i++) eager.kernel(2);
    await eager.until(eager.stream.synchronize());
    expect(eager.clock.nowNs()).toBe(10 * 5_000 + 3_000 + 4_000);

    const captured = new ModelBench();
    const graph = captured.device.capture(captured.stream, 'ten', () => {
      for (let i = 0; i < 10; i++) captured.kernel(2);
    });
    captured.stream.launchGraph(graph);
    await captured.until(captured.stream.synchronize());
    expect(captured.clock.nowNs()).toBe(3_000 + 10 * 3_000 + 4_000);
    expect(captured.device.counters()).toMatchObject({ launches: 0, graphLaunches: 1 });
  });

  test('on two ranks one thread launches twice, and a sum takes what the links do', async () => {
    const { clock, device, stream, memory } = new ModelBench(roundProfile(), 2);
    const args = { inputs: [memory], out: memory, epilogue: 'store', count: 1, width: 2 } as const;
    stream.launch('all-reduce', args);
    const ended = stream.synchronize();
    await clock.runUntil(ended);
    expect(device.info.ranks).toBe(2);
    // A kernel's least time and 1 us on top; b300-cc's toll and a push's, and four bytes.
    const meetingNs = 12_500 + 600 + 4 / (160 * 0.865);
    expect(clock.nowNs()).toBe(2 * 5_000 + Math.round(2_000 + 1_000 + meetingNs) + 4_000);
  });

  test('a sum takes what was measured, whatever else the GPU takes', async () => {
    const cost = { tollNs: 7_000, bandwidth: [{ bytes: 1, bytesPerSecond: 1e9 }] };
    const links = { gpus: 2, pushed: cost, pulled: cost, gathered: cost };
    const law = profileLaw(roundProfile({ links, collectives: undefined }));
    const clock = new VirtualClock();
    const roofline = { ...law.profile.roofline, kernelNs: 50_000 };
    const reached = [{ lines: 1, factor: 3 }];
    const device = openModelDevice({ clock, law, roofline, reached, ranks: 2 });
    const stream = device.createStream('sums');
    const memory = slice(device.allocate(64, 'sums'));
    const args = { inputs: [memory], out: memory, epilogue: 'store', count: 1, width: 2 } as const;
    stream.launch('all-reduce', args);
    await clock.runUntil(stream.synchronize());
    // Two launches; the start that was measured, the toll, four bytes; 4 us to notice.
    expect(clock.nowNs()).toBe(2 * 5_000 + 2_000 + 1_000 + 7_000 + 4 + 4_000);
  });

  test('a stream waits for what an event marked, and for no more', async () => {
    const bench = new ModelBench();
    const side = bench.device.createStream('side');
    const event = bench.device.createEvent();
    bench.kernel(100_000);
    bench.stream.record(event);
    bench.kernel(100_000);
    side.wait(event);
    bench.kernel(1_000, side);
    await bench.until(side.synchronize());
    // The first kernel ends at 5 + 101 us; the side's takes its least time.
    expect(bench.clock.nowNs()).toBe(106_000 + 3_000 + 4_000);
  });
});

describe('crossings', () => {
  test('on an idle stream, the launching thread stands still for toll and bytes', async () => {
    const bench = new ModelBench();
    const copy = bench.device.inlineLane.copy(bench.request(2_000));
    bench.kernel(8_000);
    const done = bench.stream.synchronize();
    expect(times(await bench.until(copy))).toEqual([0, 0, 12_000, 12_000]);
    await bench.until(done);
    // The launch comes after the crossing: 12 + 5 + 9 us, and 4 to notice.
    expect(bench.clock.nowNs()).toBe(30_000);
  });

  test('behind queued work, the launching thread waits for that work too', async () => {
    const bench = new ModelBench();
    bench.kernel(100_000);
    const copy = bench.device.inlineLane.copy(bench.request(2_000));
    expect(times(await bench.until(copy))).toEqual([5_000, 106_000, 138_000, 133_000]);
  });

  test('pageable memory frees the issuer, and the promise still waits for the bytes', async () => {
    const bench = new ModelBench();
    const request = bench.request(2_000, { host: bench.pageable });
    const first = bench.device.inlineLane.copy(request);
    const second = bench.device.inlineLane.copy(request);
    expect(times(await bench.until(first))).toEqual([0, 0, 12_000, 1_000]);
    expect(bench.clock.nowNs()).toBe(12_000);
    // Issued 1 us later on a stream that is busy with the first.
    expect(times(await bench.until(second))).toEqual([1_000, 12_000, 44_000, 1_000]);
  });

  test('a worker lane blocks its own thread and not the launching one', async () => {
    const bench = new ModelBench();
    const lane = await bench.until(bench.device.openLane({ label: 'drain', context: 'own' }));
    expect(bench.clock.nowNs()).toBe(100_000);
    bench.kernel(100_000);
    const drained = lane.copy(bench.request(2_000, { direction: 'd2h' }));
    const side = bench.device.createStream('side');
    bench.kernel(8_000, side);
    await bench.until(side.synchronize());
    expect(bench.clock.nowNs()).toBe(100_000 + 10_000 + 9_000 + 4_000);
    const record = await bench.until(drained);
    expect(times(record)).toEqual([105_000, 206_000, 238_000, 133_000]);
  });

  test('lanes of one context take turns, lanes of two share the rate', async () => {
    const bench = new ModelBench();
    const { device } = bench;
    const shared = await bench.until(device.openLane({ label: 'shared', context: 'shared' }));
    const own = await bench.until(device.openLane({ label: 'own', context: 'own' }));
    const onStream = (name: string) => ({ stream: device.createStream(name) });
    const startNs = bench.clock.nowNs();
    const copies = [
      shared.copy(bench.request(10_000, onStream('a'))),
      own.copy(bench.request(10_000, onStream('b'))),
      device.inlineLane.copy(bench.request(10_000, onStream('c'))),
    ];
    const [first, second, third] = await bench.until(Promise.all(copies));
    const relative = (record: CrossingRecord) => [
      record.startedNs - startNs,
      record.completedNs - startNs,
    ];
    expect(relative(first!)).toEqual([0, 20_000]);
    // Half of 1 GB/s while the first crosses.
    expect(relative(second!)).toEqual([0, 30_000]);
    // Behind the first on its channel, beside the second.
    expect(relative(third!)).toEqual([20_000, 50_000]);
  });

  test('a blocked thread hears of nothing', async () => {
    const bench = new ModelBench();
    const lane = await bench.until(bench.device.openLane({ label: 'drain', context: 'own' }));
    const side = bench.device.createStream('side');
    const quick = lane.copy(bench.request(1_000, { stream: side }));
    bench.kernel(100_000);
    const slow = bench.device.inlineLane.copy(bench.request(1_000));
    const { completedNs } = await bench.until(quick);
    const blocked = await bench.until(slow);
    expect(completedNs).toBeLessThan(blocked.completedNs);
    expect(bench.clock.nowNs()).toBe(blocked.completedNs);
  });

  test('bytes from the device are there when the promise says so, not before', async () => {
    const bench = new ModelBench();
    bench.pinned.bytes.fill(7);
    await bench.until(bench.device.inlineLane.copy(bench.request(100)));
    bench.pinned.bytes.fill(0);
    const back = bench.device.inlineLane.copy(bench.request(100, { direction: 'd2h' }));
    expect(bench.pinned.bytes[0]).toBe(0);
    await bench.until(back);
    expect([...bench.pinned.bytes.subarray(98, 102)]).toEqual([7, 7, 0, 0]);
  });
});

test('host memory takes none until someone looks, and is zeros then', async () => {
  const bench = new ModelBench();
  const { device } = bench;
  const large = device.allocateHost(2 ** 40, 'pageable', 'more than a machine has');
  const cross = (host: HostBuffer, hostOffsetBytes = 0) =>
    bench.until(device.inlineLane.copy(bench.request(100, { host, hostOffsetBytes })));
  await cross(large, 2 ** 40 - 100);
  await expect(cross(large, 2 ** 40 - 99)).rejects.toThrow('lies outside');

  // Zeros that nobody looked at come over what was there.
  bench.pinned.bytes.fill(7);
  await cross(bench.pinned);
  const blank = device.allocateHost(100, 'pageable', 'blank');
  await cross(blank);
  const found = device.allocateHost(100, 'pageable', 'found');
  found.bytes.fill(9);
  const back = bench.request(100, { host: found, direction: 'd2h' });
  await bench.until(device.inlineLane.copy(back));
  expect(new Set(found.bytes)).toEqual(new Set([0]));
  expect(new Set(blank.bytes)).toEqual(new Set([0]));
});

test('what is written into a command of any size that engines have is there', async () => {
  const { roofline } = roundProfile();
  const bench = new ModelBench(roundProfile({ roofline: { ...roofline, memoryBytes: 2 ** 30 } }));
  const command = bench.device.allocate(32 * 2 ** 20, 'command');
  const device = { ...slice(command), bytes: 100 };
  bench.pinned.bytes.fill(7);
  await bench.until(bench.device.inlineLane.copy(bench.request(100, { device })));
  bench.pinned.bytes.fill(0);
  const back = bench.request(100, { device, direction: 'd2h' });
  await bench.until(bench.device.inlineLane.copy(back));
  expect(bench.pinned.bytes[99]).toBe(7);
});

describe('limits', () => {
  test('no more contexts than the profile allows; a closed lane gives its own back', async () => {
    const bench = new ModelBench();
    const open = () => bench.until(bench.device.openLane({ label: 'lane', context: 'own' }));
    const first = await open();
    const second = await open();
    expect([first.id, second.id]).toEqual(['lane', 'lane-2']);
    expect(await codeOf(open)).toBe('too-many-contexts');
    await bench.until(first.close());
    expect((await open()).id).toBe('lane');
  });

  test('memory is the roofline’s', async () => {
    const { device } = new ModelBench();
    const rest = device.info.memoryBytes - device.counters().allocatedBytes;
    expect(await codeOf(() => device.allocate(rest + 1, 'too large'))).toBe('out-of-memory');
    device.free(device.allocate(rest - (rest % 256), 'just fits'));
    expect(await codeOf(() => device.allocate(Number.NaN, 'absurd'))).toBe('bad-argument');
  });

  test('with law off, the bridge is that of an H100 without CC', async () => {
    const clock = new VirtualClock();
    const device = openModelDevice({ clock, law: null });
    const bytes = 1 << 20;
    const host = device.allocateHost(bytes, 'pinned', 'host');
    const record = await clock.runUntil(
      device.inlineLane.copy({
        direction: 'h2d',
        device: slice(device.allocate(bytes, 'memory')),
        host,
        hostOffsetBytes: 0,
        stream: device.createStream('s'),
        purpose: 'probe',
        tenant: 't',
      }),
    );
    const { h2d } = referenceProfile('h100-native').crossings;
    const rate = h2d.pinned.bandwidth[0]!.bytesPerSecond;
    const expectedNs = Math.round(h2d.pinned.idleTollNs + (bytes * 1e9) / rate);
    expect(record.completedNs - record.startedNs).toBe(expectedNs);
    expect(record.issuerBlockedNs).toBe(2_500);
    expect(device.info.details.law).toBe('off');
  });
});

const anyTraffic = fc.array(
  fc.record({
    lane: fc.nat(2),
    direction: fc.constantFrom('h2d' as const, 'd2h' as const),
    bytes: fc.integer({ min: 1, max: 10_000 }),
    pageable: fc.boolean(),
    purpose: fc.constantFrom('tokens' as const, 'weights' as const, 'kv-spill' as const),
    tenant: fc.constantFrom('a', 'b'),
    kernelBytes: fc.nat(50_000),
    awaits: fc.boolean(),
  }),
  { maxLength: 40 },
);
type Traffic = typeof anyTraffic extends fc.Arbitrary<infer Value> ? Value : never;

/** Plays traffic over three lanes and returns all that can be seen of it. */
async function play(traffic: Traffic) {
  const bench = new ModelBench(roundProfile());
  const { device } = bench;
  const ledger = new Ledger({ law: 'round', openedNs: 0 });
  const program = async () => {
    const lanes: Lane[] = [
      device.inlineLane,
      await device.openLane({ label: 'own', context: 'own' }),
      await device.openLane({ label: 'shared', context: 'shared' }),
    ];
    const records: PromiseLike<void>[] = [];
    for (const { lane, pageable, bytes, kernelBytes, awaits, ...rest } of traffic) {
      bench.kernel(kernelBytes * 2);
      const host = pageable ? bench.pageable : bench.pinned;
      const copy = lanes[lane]!.copy(bench.request(bytes, { ...rest, host }));
      records.push(copy.then((record) => ledger.record(record)));
      if (awaits) await records.at(-1);
    }
    await Promise.all(records);
    await bench.stream.synchronize();
  };
  await bench.until(program());
  return {
    snapshot: ledger.snapshot(bench.clock.nowNs()),
    counters: device.counters(),
    nowNs: bench.clock.nowNs(),
  };
}

test('the ledger equals what the device counted, whatever the traffic', async () => {
  await fc.assert(
    fc.asyncProperty(anyTraffic, async (traffic) => {
      const { snapshot, counters } = await play(traffic);
      const bytesOf = (wanted: string) =>
        snapshot.totals
          .filter(({ direction }) => direction === wanted)
          .reduce((sum, { bytes }) => sum + bytes, 0);
      expect(bytesOf('h2d')).toBe(counters.h2dBytes);
      expect(bytesOf('d2h')).toBe(counters.d2hBytes);
      const crossings = snapshot.totals.reduce((sum, total) => sum + total.crossings, 0);
      expect(crossings).toBe(counters.copies);
      expect(counters.copies).toBe(traffic.length);
      expect(counters.launches).toBe(traffic.length);
    }),
    { numRuns: 50 },
  );
});

test('two runs of the same program are identical', async () => {
  await fc.assert(
    fc.asyncProperty(anyTraffic, async (traffic) => {
      expect(await play(traffic)).toEqual(await play(traffic));
    }),
    { numRuns: 20 },
  );
});

test('keys rotate on a channel of the device as the law says', async () => {
  const keyRotation = { everyBytes: 3_000, stallNs: 70_000 };
  const bench = new ModelBench(roundProfile({ keyRotation }));
  const services: number[] = [];
  for (let i = 0; i < 4; i++) {
    const copy = bench.device.inlineLane.copy(bench.request(2_000));
    const { startedNs, completedNs } = await bench.until(copy);
    services.push(completedNs - startedNs);
  }
  expect(services).toEqual([12_000, 82_000, 82_000, 12_000]);
});

test('the law given is the law kept: every profile, first crossing of fresh memory', async () => {
  for (const name of ['b300-cc', 'b200-cc', 'h100-cc'] as const) {
    const bench = new ModelBench(referenceProfile(name));
    const record = await bench.until(bench.device.inlineLane.copy(bench.request(4_096)));
    const { completedNs } = profileLaw(referenceProfile(name)).schedule(record, {
      issuedNs: 0,
      streamReadyNs: 0,
      contexts: 1,
      hostIsFresh: true,
      channel: { h2dFreeAtNs: 0, d2hFreeAtNs: 0, bytesSinceRotation: 0 },
    });
    expect(record.completedNs).toBe(completedNs);
  }
});
