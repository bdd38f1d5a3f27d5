import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { type Device, type Launch, openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { expect, test } from 'vitest';
import { engineOptions, withEngine } from '../testing/run.ts';

/** What an engine of these sizes is made ready for before it serves. */
async function preparedFor(sizes: { maxRows: number; maxBatchTokens: number }) {
  const clock = new VirtualClock();
  clock.runFreely();
  const device = openModelDevice({ clock, law: profileLaw(referenceProfile('h100-native')) });
  const launches: Launch[] = [];
  const prepare: Device['prepare'] = async (stream, record) => {
    const { launch, launchEach } = stream;
    stream.launch = (name, args) => {
      launches.push({ name, args } as Launch);
    };
    stream.launchEach = (each) => {
      launches.push(...each);
    };
    record();
    Object.assign(stream, { launch, launchEach });
  };
  Object.assign(device, { prepare });
  const options = engineOptions(device, { dummy: true, maxModelTokens: 512, ...sizes });
  await withEngine(options, async () => undefined);
  const countsOf = (wanted: string) =>
    launches.flatMap(({ name, args }) => (name === wanted && 'count' in args ? [args.count] : []));
  return { products: new Set(countsOf('linear')), heads: new Set(countsOf('select')) };
}

test('chunks are made ready for with rows beside them, as far as a launch holds them', async () => {
  const { products } = await preparedFor({ maxRows: 8, maxBatchTokens: 1050 });
  const large = [...products].filter((count) => count >= 512).sort((a, b) => a - b);
  // A half and three quarters of it, with 16 and 64 rows, and all of it.
  expect(large).toEqual([525, 541, 589, 787, 803, 851, 1050]);
});

test('every small number of prompts that a launch may end is made ready for', async () => {
  const { heads } = await preparedFor({ maxRows: 6, maxBatchTokens: 256 });
  expect([...heads].sort((a, b) => a - b)).toEqual([1, 2, 3, 4]);
});
