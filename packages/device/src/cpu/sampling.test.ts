import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { samplingCases } from '../contract/sampling-cases.ts';
import { type CpuDevice, openCpuDevice } from './cpu-device.ts';
import { SETTINGS } from './testing/settings.ts';

// The contract's cases of sampling; `cpu-device.test.ts` has the others. Apart, so that they can be
// run alone for each mutant.

describe.each(SETTINGS)('the contract of sampling on %s', (_, options) => {
  let device: CpuDevice;
  beforeAll(async () => {
    device = await openCpuDevice(options);
  });
  afterAll(() => device.close());

  it.each(samplingCases)('$name', async ({ run }) => {
    await run(device);
    expect(device.counters().allocatedBytes).toBe(0);
  });
});
