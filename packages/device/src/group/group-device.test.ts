import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collectiveCases } from '../contract/collective-cases.ts';
import { layerCases } from '../contract/layer-cases.ts';
import { loadCases } from '../contract/load-cases.ts';
import { memoryCases } from '../contract/memory-cases.ts';
import { pageCases } from '../contract/page-cases.ts';
import { rowCases } from '../contract/row-cases.ts';
import { streamCases } from '../contract/stream-cases.ts';
import { openCpuDevice } from '../cpu/cpu-device.ts';
import type { Device } from '../device.ts';
import { splitDevice } from './group-device.ts';

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
