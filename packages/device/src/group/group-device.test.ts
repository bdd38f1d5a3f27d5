import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collectiveCases } from '../contract/collective-cases.ts';
import { layerCases } from '../contract/layer-cases.ts';
import { loadCases } from '../contract/load-cases.ts';
import { memoryCases } from '../contract/memory-cases.ts';
import { pageCases } from '../contract/page-cases.ts';
import { rowCases } from '../contract/row-cases.ts';
import { streamCases } from '../contract/stream-cases.ts';
import { openCpuDevice } from '../cpu/cpu-device.ts';
import { type Device, slice } from '../device.ts';
import { joinDevices, splitDevice } from './group-device.ts';

/** Those of memory, streams and lanes; products, attention and sampling know nothing of ranks. */
const CASES = [
  ...collectiveCases,
  ...memoryCases,
  ...streamCases,
  ...rowCases,
  ...layerCases,
  ...pageCases,
  ...loadCases,
].filter(({ closesDevice }) => !closesDevice);

describe('the contract on two ranks of a cpu device', () => {
  let device: Device;
  beforeAll(async () => {
    device = splitDevice(await openCpuDevice({ threads: 2 }), 2);
  });
  afterAll(() => device.close());
  it.each(CASES)('$name', async ({ run }) => {
    await run(device);
    expect(device.counters().allocatedBytes).toBe(0);
  });
});

it('the first of several devices that fails is heard, whatever the others do', async () => {
  const devices = await Promise.all([1, 2].map(() => openCpuDevice({ threads: 1 })));
  const device = joinDevices(devices, { launch: () => {}, copy: () => {} });
  const stream = device.createStream('both');
  const buffer = device.allocate(64, 'on both');
  const fill = { type: 'f32', mean: 0, spread: 0, seed: 0 } as const;
  stream.launch('fill-uniform', { out: slice(buffer), elements: 16, ...fill });
  await stream.synchronize();
  const own = slice(device.ranks[1]!.part(buffer));
  devices[1]!.createStream('one').launch('fill-uniform', { out: own, elements: 999, ...fill });
  stream.launch('fill-uniform', { out: slice(buffer), elements: 16, ...fill });
  await expect(stream.synchronize()).rejects.toMatchObject({ code: 'launch-failed' });
  await device.close();
});

it('collectives take as long as the law says, and others do not', async () => {
  const law = profileLaw({
    ...referenceProfile('h100-native'),
    collectives: { tollNs: 20e6, rateFactor: 0.5 },
  });
  const device = splitDevice(await openCpuDevice({ threads: 1, law }), 2);
  const stream = device.createStream('ranks');
  const buffer = slice(device.allocate(64, 'on both'));
  const sizes = { count: 1, width: 16 };
  const busyNs = async (launch: () => void) => {
    const startedNs = device.clock.nowNs();
    launch();
    await stream.synchronize();
    return device.clock.nowNs() - startedNs;
  };
  const sum = () => {
    stream.launch('all-reduce', { inputs: [buffer], out: buffer, epilogue: 'store', ...sizes });
  };
  const graph = device.capture(stream, 'sums', () => {
    sum();
    sum();
  });
  expect(await busyNs(sum)).toBeGreaterThanOrEqual(20e6);
  expect(await busyNs(() => stream.launchGraph(graph))).toBeGreaterThanOrEqual(2 * 20e6);
  await device.close();
});

it('memory of another device is refused', async () => {
  const alone = await openCpuDevice({ threads: 1 });
  const device = splitDevice(alone, 2);
  const input = slice(alone.allocate(64, 'not on all ranks'));
  const stream = device.createStream('ranks');
  const launch = () => stream.launch('copy', { input, out: input, bytes: 64 });
  expect(launch).toThrow('"not on all ranks" is not allocated on all ranks');
  await device.close();
});
