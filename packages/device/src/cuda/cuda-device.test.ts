import { type Law, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { afterAll, describe, expect, it } from 'vitest';
import { contractCases } from '../contract/index.ts';
import type { CudaDevice } from './cuda-device.ts';
import { cudaAvailability } from './observe/availability.ts';
import { openCudaDevice } from './open.ts';

/** Nothing stands in for a GPU: without one, these have nothing to run on. */
const SETTINGS: readonly (readonly [string, Law | null])[] = cudaAvailability().available
  ? [
      ['as it is', null],
      ['under a blocking law', profileLaw(referenceProfile('h100-cc'))],
      ['under a law without blocking', profileLaw(referenceProfile('h100-native'))],
    ]
  : [];

describe.each(SETTINGS)('the contract on a real GPU %s', (_, law) => {
  let device: CudaDevice | null = null;
  const open = async () => {
    device ??= await openCudaDevice({ law });
    return device;
  };
  afterAll(() => device?.close());

  it.each(contractCases)('$name', async ({ run, closesDevice }) => {
    if (closesDevice) return run(await openCudaDevice({ law }));
    await run(await open());
    expect((await open()).counters().allocatedBytes).toBe(0);
  });
});

describe('openCudaDevice', () => {
  it('opens, or says why not', async () => {
    try {
      const device = await openCudaDevice();
      expect(device.info.kind).toBe('cuda');
      await device.close();
    } catch (error) {
      expect(error).toMatchObject({ name: 'DeviceError' });
      expect((error as { code: string }).code).toMatch(/^(library-missing|no-device|unsupported)$/);
    }
  });
});
