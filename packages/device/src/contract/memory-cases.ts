import { type DeviceBuffer, type Lane, slice } from '../device.ts';
import { type ContractCase, expectDeviceError, expectSame, expectThat, plainCase } from './case.ts';
import { READ_BYTES, readInThread } from './reader.ts';
import { runUploads } from './uploads.ts';
import { benchCase, type Workbench } from './workbench.ts';

/** Sizes and offsets that catch code which assumes words, lines or pages. */
const COPY_SHAPES = [
  { bytes: 1, deviceOffset: 0, hostOffset: 0 },
  { bytes: 3, deviceOffset: 5, hostOffset: 1 },
  { bytes: 4097, deviceOffset: 16, hostOffset: 7 },
  { bytes: 100_003, deviceOffset: 255, hostOffset: 64 },
] as const;

/** More than an uploader may have under way. */
const UPLOAD_PIECES = 21;

async function roundTrip(bench: Workbench, lane: Lane): Promise<void> {
  const { device, dice } = bench;
  for (const { bytes, deviceOffset, hostOffset } of COPY_SHAPES) {
    const there = await bench.poisoned(deviceOffset + bytes + 32);
    const source = bench.host(hostOffset + bytes);
    const target = bench.host(hostOffset + bytes);
    for (let i = 0; i < source.bytes.length; i++) source.bytes[i] = dice.integer(0, 255);
    const part = slice(there.buffer, deviceOffset, bytes);
    const before = device.counters();
    const up = await bench.copy(lane, 'h2d', part, source, hostOffset);
    const down = await bench.copy(lane, 'd2h', part, target, hostOffset);
    const after = device.counters();
    const what = `${bytes} bytes through lane ${lane.id}`;
    expectSame(what, target.bytes.subarray(hostOffset), source.bytes.subarray(hostOffset));
    expectSame(
      `counters of ${what}`,
      [
        after.h2dBytes - before.h2dBytes,
        after.d2hBytes - before.d2hBytes,
        after.copies - before.copies,
      ],
      [bytes, bytes, 2],
    );
    const around = await bench.downloadBytes(there);
    const tail = around.subarray(deviceOffset + bytes);
    expectSame(
      `device bytes before ${what}`,
      around.subarray(0, deviceOffset),
      Array(deviceOffset).fill(0xff),
    );
    expectSame(`device bytes behind ${what}`, tail, Array(tail.length).fill(0xff));
    for (const [record, direction] of [
      [up, 'h2d'],
      [down, 'd2h'],
    ] as const) {
      expectThat(
        record.bytes === bytes && record.direction === direction && record.lane === lane.id,
        `record of ${what} says ${record.direction} of ${record.bytes} bytes on ${record.lane}`,
      );
      expectThat(
        record.issuedNs <= record.startedNs &&
          record.startedNs <= record.completedNs &&
          record.issuerBlockedNs >= 0,
        `times of ${what} are out of order: ${JSON.stringify(record)}`,
      );
    }
  }
}

function laneCase(context: 'own' | 'shared'): ContractCase {
  return benchCase(
    `copies round trip through a worker lane, ${context} context`,
    'no arithmetic',
    async (bench) => {
      const lane = await bench.device.openLane({ label: `contract-${context}`, context });
      expectThat(lane.kind === 'worker', `an opened lane is of kind ${lane.kind}`);
      try {
        await roundTrip(bench, lane);
      } finally {
        await lane.close();
      }
      await expectDeviceError('a copy on a closed lane', 'closed', async () =>
        bench.copy(lane, 'h2d', await bench.poisoned(16), bench.host(16)),
      );
    },
  );
}

/**
 * Where nothing forbids it: more copies than may be under way, at odd offsets, to two streams in
 * turn, all counted.
 */
async function uploadInThread(bench: Workbench): Promise<void> {
  const { device, dice } = bench;
  const start = device.uploaderStart();
  if (start === null) return;
  const pieceBytes = 4097;
  const halfBytes = UPLOAD_PIECES * pieceBytes;
  const there = await bench.poisoned(2 * halfBytes + 64);
  const streams = [0, 1].map((i) => device.createStream(`contract uploads ${i}`));
  const targets = await Promise.all(
    streams.map((stream, i) => {
      const from = there.offsetBytes + 32 + i * halfBytes;
      return device.uploadTarget(slice(there.buffer, from, halfBytes), stream);
    }),
  );
  const source = device.allocateHost(2 * halfBytes, 'pinned', 'contract uploads');
  for (let i = 0; i < source.bytes.length; i++) source.bytes[i] = dice.integer(0, 255);
  const before = device.counters();
  const task = { start, host: device.hostHandle(source), targets, pieceBytes };
  const made = await runUploads({ ...task, pieces: 2 * UPLOAD_PIECES });
  const after = device.counters();
  expectSame(
    'counted copies and bytes',
    [after.copies - before.copies, after.h2dBytes - before.h2dBytes],
    [2 * UPLOAD_PIECES, 2 * halfBytes],
  );
  const bytes = await bench.downloadBytes(there);
  for (const half of targets.keys()) {
    for (let piece = 0; piece < UPLOAD_PIECES; piece++) {
      const at = 32 + half * halfBytes + piece * pieceBytes;
      const from = (piece * 2 + half) * pieceBytes;
      const expected = source.bytes.subarray(from, from + pieceBytes);
      expectSame(`piece ${piece} of ${half}`, bytes.subarray(at, at + pieceBytes), expected);
    }
  }
  expectSame('bytes before', bytes.subarray(0, 32), Array(32).fill(0xff));
  expectSame('bytes behind', bytes.subarray(32 + 2 * halfBytes), Array(32).fill(0xff));
  expectThat(made.length === 2 * UPLOAD_PIECES, `${made.length} copies are said to be made`);
  let lastNs = 0;
  for (const { issuedNs, startedNs, completedNs } of made) {
    const inOrder = issuedNs <= startedNs && startedNs <= completedNs && lastNs <= completedNs;
    expectThat(inOrder, `an upload's times are out of order: ${JSON.stringify(made)}`);
    lastNs = completedNs;
  }
  device.freeHost(source);
  await expectDeviceError('a target outside its buffer', 'bad-argument', () =>
    device.uploadTarget({ ...there, bytes: there.buffer.bytes + 1 }, streams[0]!),
  );
}

export const memoryCases: readonly ContractCase[] = [
  plainCase('allocations are counted, distinct and freed', async (device) => {
    const before = device.counters().allocatedBytes;
    const buffers: DeviceBuffer[] = [1, 255, 256, 70_000].map((bytes) =>
      device.allocate(bytes, `contract ${bytes}`),
    );
    const held = device.counters().allocatedBytes - before;
    expectThat(held >= 70_512, `70512 bytes are allocated, but ${held} counted`);
    expectThat(new Set(buffers.map(({ id }) => id)).size === 4, 'two live buffers share an id');
    for (const buffer of buffers) device.free(buffer);
    const after = device.counters().allocatedBytes;
    expectThat(after === before, `${after - before} bytes are still counted after free`);
  }),
  plainCase('too large an allocation is refused and harms nothing', async (device) => {
    const before = device.counters().allocatedBytes;
    await expectDeviceError('twice the memory', 'out-of-memory', () =>
      device.allocate(device.info.memoryBytes * 2, 'contract giant'),
    );
    expectThat(device.counters().allocatedBytes === before, 'a refused allocation was counted');
    device.free(device.allocate(4096, 'contract after giant'));
  }),
  benchCase(
    'copies outside a buffer or of a freed one are refused',
    'no arithmetic',
    async (bench) => {
      const { device } = bench;
      const host = bench.host(64);
      const buffer = device.allocate(64, 'contract short-lived');
      await expectDeviceError('a copy past the host buffer', 'bad-argument', () =>
        bench.copy(device.inlineLane, 'h2d', slice(buffer), host, 1),
      );
      await expectDeviceError('a copy past the device buffer', 'bad-argument', () =>
        bench.copy(device.inlineLane, 'h2d', { buffer, offsetBytes: 32, bytes: 64 }, host),
      );
      device.free(buffer);
      await expectDeviceError('a copy to a freed buffer', 'bad-argument', () =>
        bench.copy(device.inlineLane, 'h2d', slice(buffer), host),
      );
      await expectDeviceError('a second free', 'bad-argument', () => device.free(buffer));
    },
  ),
  benchCase('copies round trip through the inline lane', 'no arithmetic', (bench) =>
    roundTrip(bench, bench.device.inlineLane),
  ),
  benchCase('another thread fills host memory by its handle', 'no arithmetic', async (bench) => {
    const { device } = bench;
    for (const memory of ['pinned', 'pageable'] as const) {
      const host = device.allocateHost(READ_BYTES.length, memory, `contract ${memory}`);
      const there = await bench.poisoned(READ_BYTES.length);
      const read = await readInThread(device.hostHandle(host));
      expectSame(`bytes read to ${memory} memory`, [read], [READ_BYTES.length]);
      expectSame(`${memory} memory`, host.bytes, READ_BYTES);
      await bench.copy(device.inlineLane, 'h2d', there, host);
      expectSame(`what crossed from ${memory}`, await bench.downloadBytes(there), READ_BYTES);
      device.freeHost(host);
      await expectDeviceError('the handle of a freed buffer', 'bad-argument', () =>
        device.hostHandle(host),
      );
    }
  }),
  benchCase('another thread copies up by itself', 'no arithmetic', uploadInThread),
  laneCase('own'),
  laneCase('shared'),
  {
    name: 'a closed device refuses everything',
    arithmetic: false,
    closesDevice: true,
    run: async (device) => {
      const buffer = device.allocate(64, 'contract closing');
      const host = device.allocateHost(64, 'pinned', 'contract closing');
      const stream = device.createStream('contract closing');
      await device.close();
      await device.close();
      const refuses = (what: string, action: () => unknown) =>
        expectDeviceError(`${what} on a closed device`, 'closed', action);
      await refuses('allocate', () => device.allocate(64, 'contract'));
      await refuses('allocateHost', () => device.allocateHost(64, 'pinned', 'contract'));
      await refuses('hostHandle', () => device.hostHandle(host));
      await refuses('createStream', () => device.createStream('contract'));
      await refuses('openLane', () => device.openLane({ label: 'late', context: 'own' }));
      await refuses('synchronize', () => stream.synchronize());
      await refuses('copy', () =>
        device.inlineLane.copy({
          direction: 'h2d',
          device: slice(buffer),
          host,
          hostOffsetBytes: 0,
          stream,
          purpose: 'probe',
          tenant: 'contract',
        }),
      );
    },
  },
];
