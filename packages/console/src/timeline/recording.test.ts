import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { durationText, tickOf, usAt } from './draw.ts';
import { Recording, type Snapshot, sumsWithin } from './recording.ts';
import { recordingOfTrace, traceOf } from './trace.ts';

const ACCOUNTS = [
  { purpose: 'command', direction: 'h2d' },
  { purpose: 'tokens', direction: 'd2h' },
] as const;

/** Crossings are [lane, account, ago, us, toll, blocked, bytes, count]. */
function moment(seq: number, nowUs: number, crossings: readonly number[][] = []) {
  return {
    seq,
    now_us: nowUs,
    server_us: nowUs + 500,
    lanes: ['inline', 'drain'],
    crossings,
    launches: [],
    dropped: 0,
  };
}

const snapshotOf = (...moments: Snapshot['moments']): Snapshot => {
  return { device: 'cpu', accounts: ACCOUNTS, moments };
};

describe('a recording of lanes', () => {
  it('puts what moments tell where it was', () => {
    const crossings = [
      [0, 0, 900, 100, 20, 60, 4096, 1],
      [1, 1, 500, 200, 22, 200, 64, 1],
    ];
    const recording = new Recording(snapshotOf(moment(1, 10_000, crossings)));
    expect(recording.lanes.map(({ name }) => name)).toEqual(['inline', 'drain']);
    expect(recording.lanes[0]!.slices.at(0)).toMatchObject({ startUs: 9_100, endUs: 9_200 });
    expect(recording.lanes[1]!.slices.at(0)).toMatchObject({ startUs: 9_500, endUs: 9_700 });
    // Only the launching thread's waiting keeps the GPU from work.
    expect(recording.blocked).toHaveLength(1);
    expect(recording.blocked.at(0)).toMatchObject({ startUs: 9_100, endUs: 9_160 });
    expect(recording.serverOffsetUs).toBe(500);
  });

  it('takes each moment once, and counts those that never came', () => {
    const recording = new Recording(snapshotOf(moment(3, 10_000, [[0, 0, 9, 1, 0, 0, 8, 1]])));
    recording.add(moment(3, 10_000, [[0, 0, 9, 1, 0, 0, 8, 1]]));
    expect(recording.lanes[0]!.slices).toHaveLength(1);
    expect(recording.missed).toBe(0);
    recording.add(moment(6, 20_000, [[0, 0, 9, 1, 0, 0, 8, 1]]));
    expect(recording.lanes[0]!.slices).toHaveLength(2);
    expect(recording.missed).toBe(2);
  });

  it('forgets what is older than its window', () => {
    const recording = new Recording(
      snapshotOf(moment(1, 1_000, [[0, 0, 900, 10, 0, 0, 8, 1]])),
      5_000,
    );
    recording.add(moment(2, 5_000));
    expect(recording.lanes[0]!.slices).toHaveLength(1);
    recording.add(moment(3, 9_000));
    expect(recording.lanes[0]!.slices).toHaveLength(0);
  });

  it('sums a stretch, with the part of what lies across its border', () => {
    const crossings = [
      [0, 0, 1_000, 100, 50, 0, 1_000, 1],
      [1, 1, 500, 100, 20, 100, 64, 4],
    ];
    const recording = new Recording(snapshotOf(moment(1, 10_000, crossings)));
    // From the middle of the first crossing.
    const sums = sumsWithin(recording, 9_050, 10_000);
    expect(sums).toEqual([
      { ...ACCOUNTS[0], crossings: 0.5, bytes: 500, busyUs: 50, tollUs: 25, blockedUs: 0 },
      { ...ACCOUNTS[1], crossings: 4, bytes: 64, busyUs: 100, tollUs: 20, blockedUs: 100 },
    ]);
    expect(sumsWithin(recording, 9_700, 10_000)).toEqual([]);
  });

  it('finds by halves the first slice that ends later', () => {
    const slices = Array.from({ length: 100 }, (_, at) => [0, 0, 1_000 - 10 * at, 5, 0, 0, 1, 1]);
    const recording = new Recording(snapshotOf(moment(1, 1_000, slices)));
    const row = recording.lanes[0]!.slices;
    for (const us of [-1, 0, 4, 5, 6, 503, 505, 994, 995, 2_000]) {
      const straight = [...row].findIndex(({ endUs }) => endUs > us);
      expect(row.firstEndingAfter(us)).toBe(straight < 0 ? row.length : straight);
    }
  });
});

describe('a recording that is told too much', () => {
  it('keeps so many slices and lanes, and counts those that found no room', () => {
    const recording = new Recording(snapshotOf());
    const crossings = Array.from({ length: 50_000 }, (_, at) => [at % 2, 0, 900, 1, 0, 0, 8, 1]);
    for (let seq = 1; seq <= 14; seq++) recording.add(moment(seq, 1_000 * seq, crossings));
    const kept = recording.lanes.reduce((sum, { slices }) => sum + slices.length, 0);
    expect(kept).toBeLessThanOrEqual(600_000);
    expect(kept).toBeGreaterThan(300_000);
    expect(kept + recording.dropped).toBe(700_000);
    const lanes = Array.from({ length: 1_000 }, (_, at) => `lane ${at} ${'x'.repeat(1_000)}`);
    recording.add({ ...moment(15, 15_000, [[999, 0, 9, 1, 0, 0, 8, 5]]), lanes });
    expect(recording.lanes.length).toBeLessThanOrEqual(64);
    expect(Math.max(...recording.lanes.map(({ name }) => name.length))).toBeLessThanOrEqual(64);
    expect(kept + recording.dropped).toBe(700_005);
  });
});

describe('the axis', () => {
  it('has round ticks, no more than fit', () => {
    expect(tickOf(2e6, 10)).toBe(200_000);
    expect(tickOf(2e6, 3)).toBe(1_000_000);
    expect(tickOf(950, 4)).toBe(500);
  });

  it('says durations in the unit that fits', () => {
    expect([12, 1_500, -2_340_000].map(durationText)).toEqual(['12 µs', '1.5 ms', '-2.34 s']);
  });

  it('knows the time under a place', () => {
    const view = { fromUs: 1_000, toUs: 2_000, selection: null };
    expect(usAt(1_140, 1_140, view)).toBe(2_000);
    expect(usAt(640, 1_140, view)).toBe(1_500);
    expect(usAt(0, 1_140, view)).toBe(1_000);
  });
});

describe('what came from anybody', () => {
  const junk = fc.oneof(
    fc.anything(),
    fc.record(
      {
        seq: fc.oneof(fc.integer({ min: -5, max: 40 }), fc.anything()),
        now_us: fc.oneof(fc.nat(), fc.double()),
        server_us: fc.nat(),
        lanes: fc.oneof(fc.array(fc.string({ maxLength: 4 }), { maxLength: 3 }), fc.anything()),
        crossings: fc.array(fc.oneof(fc.array(fc.nat(), { maxLength: 9 }), fc.anything())),
        launches: fc.array(fc.oneof(fc.array(fc.double(), { maxLength: 6 }), fc.anything())),
        dropped: fc.nat(9),
      },
      { requiredKeys: ['seq', 'now_us'] },
    ),
  );

  it('never breaks a recording, which counts what it could not read', () => {
    fc.assert(
      fc.property(fc.array(junk, { maxLength: 20 }), (events) => {
        const recording = new Recording(snapshotOf());
        for (const event of events) recording.add(event);
        for (const { slices } of recording.lanes) {
          for (const { startUs, endUs } of slices) {
            expect(Number.isFinite(startUs) && endUs >= startUs).toBe(true);
          }
        }
        expect(Number.isFinite(recording.firstUs)).toBe(true);
        sumsWithin(recording, 0, recording.nowUs);
        expect(recording.malformed).toBeLessThanOrEqual(events.length);
      }),
    );
  });

  it('is the same whatever comes twice or late, and says how much never came', () => {
    const all = Array.from({ length: 30 }, (_, at) =>
      moment(at + 1, 1_000 * (at + 1), [[1, 1, 10, 5, 1, 0, 64, 1]]),
    );
    fc.assert(
      fc.property(fc.array(fc.nat(29), { minLength: 1, maxLength: 80 }), (order) => {
        const recording = new Recording(snapshotOf());
        let last = 0;
        let kept = 0;
        let first = 0;
        for (const at of order) {
          recording.add(all[at]!);
          if (at + 1 <= last) continue;
          if (first === 0) first = at + 1;
          last = at + 1;
          kept += 1;
        }
        expect(recording.nowUs).toBe(1_000 * last);
        expect(recording.lanes[1]!.slices).toHaveLength(kept);
        expect(recording.missed).toBe(last - first + 1 - kept);
      }),
    );
  });
});

describe('a trace of what is shown', () => {
  it('has what lies within it, and is read as what it was', () => {
    const crossings = [
      [0, 0, 900, 100, 20, 60, 4096, 1],
      [1, 1, 500, 200, 22, 200, 64, 3],
      [1, 1, 100, 50, 22, 50, 64, 1],
    ];
    const launches = [[950, 900, 4, 2, 7]];
    const recording = new Recording(snapshotOf({ ...moment(1, 10_000, crossings), launches }));
    const read = (text: string) => new Recording(recordingOfTrace(JSON.parse(text).traceEvents));
    const again = read(traceOf(recording, 0, 10_000));
    const rows = ({ launches: gpu, lanes }: Recording) => [
      [...gpu],
      ...lanes.map(({ name, slices }) => [name, ...slices]),
    ];
    expect(rows(again)).toEqual(rows(recording));
    const part = read(traceOf(recording, 9_650, 9_800));
    expect(part.lanes.map(({ name, slices }) => [name, slices.length])).toEqual([['drain', 1]]);
    expect([part.launches.length, part.lanes[0]!.slices.at(0).count]).toEqual([1, 3]);
  });
});

describe('a trace of somebody else', () => {
  it('is read where it has slices, and refused where it has none', () => {
    const named = { ph: 'M', name: 'thread_name', tid: 2, args: { name: 'lane drain' } };
    const gpu = { ph: 'M', name: 'thread_name', tid: 1, args: { name: 'GPU' } };
    const launch = { ph: 'X', name: 'decode', tid: 1, ts: 0, dur: 40, args: { steps: 4, rows: 2 } };
    const args = { direction: 'd2h', bytes: 64, tollUs: 3, issuerBlockedUs: 0, crossings: 2 };
    const copy = { ph: 'X', name: 'tokens', tid: 2, ts: 50, dur: 10, args };
    const recording = new Recording(
      recordingOfTrace([named, gpu, copy, launch, null, 3, { ph: 'X' }]),
      Number.POSITIVE_INFINITY,
    );
    expect(recording.launches.at(0)).toMatchObject({ startUs: 0, endUs: 40, count: 4, rows: 2 });
    expect(recording.lanes.map(({ name }) => name)).toEqual(['drain']);
    expect([...recording.lanes[0]!.slices]).toEqual([
      expect.objectContaining({ startUs: 50, endUs: 60, bytes: 64 }),
    ]);
    expect(sumsWithin(recording, 0, 60)).toEqual([
      expect.objectContaining({ purpose: 'tokens', direction: 'd2h', crossings: 2, tollUs: 3 }),
    ]);
    expect(() => recordingOfTrace([])).toThrow('no slices');
    fc.assert(
      fc.property(fc.array(fc.anything()), (events) => {
        try {
          new Recording(recordingOfTrace(events));
        } catch (error) {
          expect((error as Error).message).toContain('no slices');
        }
      }),
    );
  });
});
