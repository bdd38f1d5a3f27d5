import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MadeOnce } from '../contract/case.ts';
import { contractCases } from '../contract/index.ts';
import { samplingCases } from '../contract/sampling-cases.ts';
import { Workbench } from '../contract/workbench.ts';
import { slice } from '../device.ts';
import { elementMatrix } from '../ops.ts';
import { type CpuDevice, type CpuDeviceOptions, openCpuDevice } from './cpu-device.ts';
import { SETTINGS } from './testing/settings.ts';

const LAW = profileLaw(referenceProfile('h100-cc'));
/** Needs more memory than any slice of these tests has. */
const LARGE = 2048;

function onDevice(options: CpuDeviceOptions, tests: (device: () => CpuDevice) => void): void {
  let device: CpuDevice;
  beforeAll(async () => {
    device = await openCpuDevice(options);
  });
  afterAll(() => device.close());
  tests(() => device);
}

const SAMPLING = new Set(samplingCases);

describe('the contract', () => {
  const devices = new Map<string, CpuDevice>();
  beforeAll(async () => {
    for (const [setting, options] of SETTINGS) devices.set(setting, await openCpuDevice(options));
  });
  afterAll(() => Promise.all([...devices.values()].map((device) => device.close())));

  describe.each(contractCases.filter((one) => !SAMPLING.has(one)))('$name', ({ run }) => {
    // Making inputs and references takes longer than what the devices do with them.
    const made: MadeOnce = new Map();
    afterAll(() => made.clear());

    it.each(SETTINGS)('on %s', async (setting) => {
      const device = devices.get(setting)!;
      await run(device, made);
      expect(device.counters().allocatedBytes).toBe(0);
    });
  });
});

describe('failures', () => {
  it.each([1, 2])('an operation that throws fails its stream on %i threads', async (threads) => {
    const device = await openCpuDevice({ threads });
    const bench = new Workbench(device);
    const small = await bench.output(16);
    const host = bench.host(16);
    bench.launch('linear', {
      ...elementMatrix(small),
      input: small,
      norm: null,
      normOffset: 0,
      epsilon: 0,
      activation: 'silu',
      bias: null,
      out: small,
      count: LARGE,
      inputs: LARGE,
      outputs: LARGE,
      epilogue: 'store',
      outType: 'f32',
      workspace: small,
    });
    const failure = { code: 'launch-failed', message: expect.stringContaining('"matmul" failed') };
    await expect(bench.stream.synchronize()).rejects.toMatchObject(failure);
    await expect(bench.stream.synchronize()).rejects.toMatchObject(failure);
    const copy = bench.copy(device.inlineLane, 'd2h', slice(small.buffer, 0, 16), host);
    await expect(copy).rejects.toMatchObject(failure);
    await device.close();
  });

  it('a graph with a freed buffer fails, and says so', async () => {
    const device = await openCpuDevice({ threads: 2 });
    const bench = new Workbench(device);
    const buffer = device.allocate(64, 'short-lived');
    const args = {
      out: slice(buffer),
      elements: 16,
      type: 'f32',
      mean: 0,
      spread: 1,
      seed: 1,
    } as const;
    const graph = device.capture(bench.stream, 'graph', () => bench.launch('fill-uniform', args));
    bench.stream.launchGraph(graph);
    await bench.stream.synchronize();
    device.free(buffer);
    expect(() => bench.launch('fill-uniform', args)).toThrow(/not allocated/);
    bench.stream.launchGraph(graph);
    await expect(bench.stream.synchronize()).rejects.toThrow(/was freed/);
    await device.close();
  });

  it('closing settles everything that is under way', async () => {
    const device = await openCpuDevice({ threads: 2, law: LAW });
    const bench = new Workbench(device);
    const lane = await device.openLane({ label: 'closing', context: 'own' });
    const target = await bench.poisoned(1 << 20);
    const host = bench.host(1 << 20);
    const copies = Array.from({ length: 20 }, () => bench.copy(lane, 'h2d', target, host));
    const settled = Promise.allSettled([...copies, bench.stream.synchronize()]);
    await device.close();
    for (const result of await settled) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'closed' });
    }
    await lane.close();
  });
});

describe('limits', () => {
  onDevice({ threads: 1, memoryBytes: 4096, law: contextLaw(2) }, (device) => {
    it('memory beyond the limit is refused until some is freed', () => {
      const buffer = device().allocate(3000, 'most');
      expect(() => device().allocate(2000, 'more')).toThrow(/no room for "more"/);
      device().free(buffer);
      device().free(device().allocate(4096, 'all'));
    });

    it.each([0, -1, 1.5, Number.NaN])('a buffer of %d bytes is refused', (bytes) => {
      expect(() => device().allocate(bytes, 'odd')).toThrow(/cannot have/);
    });

    it('slices of operations must be aligned', () => {
      const buffer = device().allocate(64, 'aligned');
      const out = slice(buffer, 4);
      const args = { elements: 4, type: 'f32', mean: 0, spread: 1, seed: 1 } as const;
      const stream = device().createStream('aligned');
      expect(() => stream.launch('fill-uniform', { out, ...args })).toThrow(/multiple of 16/);
      device().free(buffer);
    });

    it('contexts beyond the profile are refused, lanes on a shared one are not', async () => {
      const open = (label: string, context: 'own' | 'shared') =>
        device().openLane({ label, context });
      const first = await open('first', 'own');
      await expect(open('second', 'own')).rejects.toMatchObject({ code: 'too-many-contexts' });
      const shared = await open('shared', 'shared');
      await first.close();
      const third = await open('third', 'own');
      await Promise.all([shared.close(), third.close()]);
    });
  });
});

function contextLaw(max: number) {
  const profile = referenceProfile('h100-cc');
  return profileLaw({ ...profile, contexts: { ...profile.contexts, max } });
}

describe('the law in real time', () => {
  onDevice({ threads: 2, law: LAW }, (device) => {
    it.each(['inline', 'worker'] as const)(
      'a crossing of the %s lane takes its time',
      async (kind) => {
        const bench = new Workbench(device());
        const opened = await device().openLane({ label: 'timed', context: 'own' });
        const lane = kind === 'inline' ? device().inlineLane : opened;
        const target = await bench.poisoned(65_536);
        const host = bench.host(65_536);
        const { direction, ...times } = await bench.copy(lane, 'h2d', target, host);
        const { idleTollNs } = LAW.profile.crossings.h2d.pinned;
        const leastNs = idleTollNs + (65_536 / 3e9) * 1e9;
        expect(direction).toBe('h2d');
        expect(times.completedNs - times.startedNs).toBeGreaterThanOrEqual(leastNs);
        expect(times.issuerBlockedNs).toBe(times.completedNs - times.issuedNs);
        await opened.close();
        bench.dispose();
      },
    );

    it('crossings of one context take turns', async () => {
      const bench = new Workbench(device());
      const shared = await device().openLane({ label: 'shared', context: 'shared' });
      const other = device().createStream('other');
      const target = await bench.poisoned(65_536);
      const host = bench.host(65_536);
      const records = await Promise.all(
        Array.from({ length: 6 }, (_, i) =>
          i % 2 === 0
            ? bench.copy(shared, 'h2d', target, host)
            : bench.copy(device().inlineLane, 'h2d', target, host, 0, other),
        ),
      );
      records.sort((a, b) => a.startedNs - b.startedNs);
      for (let i = 1; i < records.length; i++) {
        // A thread may notice late that its time is over: the law's clock does not wait for that.
        const { startedNs } = records[i]!;
        const before = records[i - 1]!;
        const serviceNs = LAW.profile.crossings.h2d.pinned.idleTollNs;
        expect(startedNs).toBeGreaterThanOrEqual(before.startedNs + serviceNs);
      }
      await shared.close();
      bench.dispose();
    });
  });
});
